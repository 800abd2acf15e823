"""Faces with the oldest OpenCV and MediaPipe that are said to work, beside those of .venv: `make oldest`.

Installs them into build/oldest (about 1 GB with what MediaPipe asks for), finds, masks and compares the faces of Mini's photos with both,
and prints how far the numbers are apart. Exits with 1 where they are further apart than rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("opencv-contrib-python==4.8.1.78", "mediapipe==0.10.14", "numpy==1.26.4", "pillow", "safetensors", "scipy")
HOME = REPOSITORY / "build" / "oldest"
FURTHEST = {"box": 0.5, "blendshapes": 0.02, "mask": 0.002, "points": 0.5, "likeness": 0.01}
"""Pixels, scores, share of the picture, pixels, cosine."""


def numbers(folder: Path) -> dict[str, list[Any]]:
    """What the package's own code makes of the photos, by kind."""
    import cv2
    import mediapipe

    from faceexpr_core import mini
    from faceexpr_core.faces.detector import FaceDetector, face_mask
    from faceexpr_core.faces.images import read_rgb
    from faceexpr_core.measure.identity import IdentityMeter

    found: dict[str, list[Any]] = {"versions": [cv2.__version__, mediapipe.__version__], **{kind: [] for kind in FURTHEST}}
    pictures = [read_rgb(path) for path in sorted(mini.subject_path().iterdir()) if path.suffix in (".jpg", ".png")]
    with FaceDetector([folder]) as detector:
        identity = IdentityMeter([folder], detector)
        embeddings = []
        for picture in pictures:
            face = detector.detect(picture)[0]
            points = detector.five_points(picture)
            assert points is not None
            found["box"] += face.box
            found["blendshapes"] += [score for _, score in sorted(face.blendshapes.items())]
            found["mask"].append(float(face_mask(face, *picture.shape[:2]).mean()))
            found["points"] += points.flatten().tolist()
            vector = identity.embed(picture)
            assert vector is not None
            embeddings.append(vector)
    found["likeness"] = [float(embeddings[0] @ other) for other in embeddings[1:]]
    return found


def main() -> int:
    from comfy_process import models_path

    python = HOME / "bin" / "python"
    if not python.is_file():
        venv.create(HOME, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
    asked = [str(Path(__file__)), "--numbers", str(models_path())]
    old, new = (
        json.loads(subprocess.run([one, *asked], check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for one in (str(python), sys.executable)
    )
    print(f"OpenCV and MediaPipe {old.pop('versions')} beside {new.pop('versions')}")
    far = False
    for kind, most in FURTHEST.items():
        apart = max(abs(first - second) for first, second in zip(old[kind], new[kind], strict=True))
        far |= apart > most
        print(f"{kind:<12} {len(old[kind]):>4} numbers, at most {apart:.2g} apart (allowed {most:g})")
    return int(far)


if __name__ == "__main__":
    if "--numbers" in sys.argv:
        sys.path.insert(0, str(REPOSITORY))
        print(json.dumps(numbers(Path(sys.argv[2]))))
    else:
        sys.exit(main())
