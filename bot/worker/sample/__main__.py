"""The worker of samples: make one."""

from bot.worker.harness import main
from bot.worker.sample.make import make

if __name__ == "__main__":
    main({"make": make})
