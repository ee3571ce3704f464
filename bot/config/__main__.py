"""``python -m bot.config > bot/config/phi-bot.schema.json``: the JSON Schema of phi-bot.toml."""

import json
import sys

from bot.config import json_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
