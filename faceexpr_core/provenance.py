"""That a picture was drawn by a model, said in the file in the words that others read: XMP, and IPTC's digital source types."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

XMP_KEY = "XML:com.adobe.xmp"
"""The PNG text chunk of XMP (ISO 16684-1; Adobe, XMP Specification Part 3)."""
DRAWN_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC NewsCodes, digital source type: created by a trained model."""
CHANGED_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""The same: a picture from elsewhere into which a trained model drew."""

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="FaceExpr" ext:DigitalSourceType="{source}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def say_drawn_by_a_model(info: PngInfo, source: str = DRAWN_BY_A_MODEL) -> None:
    """Add to the texts of a PNG that a model drew it, or a part of it (`source`), and that FaceExpr had it drawn."""
    info.add_itxt(XMP_KEY, _XMP.format(source=source))
