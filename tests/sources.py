"""How a picture says that it was made, read as other programs read it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CHANGED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def digital_source(path: Path) -> str | None:
    """IPTC's digital source type in the XMP of a PNG file; None where it has no XMP."""
    with Image.open(path) as picture:
        packet = picture.info.get("XML:com.adobe.xmp")
    if packet is None:
        return None
    (about,) = ElementTree.fromstring(packet).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert about.attrib["{http://ns.adobe.com/xap/1.0/}CreatorTool"] == "FaceExpr"
    return about.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"]
