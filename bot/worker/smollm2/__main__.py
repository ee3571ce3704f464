"""The worker of the real model: make its checkpoint."""

from bot.worker.harness import main
from bot.worker.smollm2.make import make

if __name__ == "__main__":
    main({"make": make})
