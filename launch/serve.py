"""Serving as a Ray job; ``ascend-serve serve`` with the same arguments.

ray job submit --working-dir . -- python launch/serve.py configs/demo.yaml key=value
"""

import sys

from ascend_serve.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    main()
