"""The paper's command, `python -m faceexpr_core.train`, as the authors' release spells it; all of it is in `commands/train.py`."""

from .commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
