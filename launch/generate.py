r"""Offline generation as a Ray job; ``ascend-serve generate`` with the same arguments.

ray job submit --working-dir . -- python launch/generate.py configs/demo.yaml key=value \
        --input prompts.jsonl --output answers.jsonl
"""

import sys

from ascend_serve.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "generate")
    main()
