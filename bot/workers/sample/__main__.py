"""What the worker of samples does: make one."""

from bot.workers.harness import main
from bot.workers.sample.make import make

if __name__ == "__main__":
    main({"make": make})
