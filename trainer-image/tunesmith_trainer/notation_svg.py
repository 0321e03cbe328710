"""A strict reader of SVG drawings: well-formed XML whose root is <svg>, of elements that draw and nothing that runs."""

from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

_NAMESPACE = "{http://www.w3.org/2000/svg}"
#: Elements that put something on the canvas (SVG 2, section 5 and following).
_SHAPES = frozenset({"circle", "ellipse", "line", "path", "polygon", "polyline", "rect", "text", "use"})
#: Elements around them; script, foreignObject, image, a and animations are left out: they run code or load files.
_AROUND = frozenset({"clipPath", "defs", "desc", "filter", "g", "linearGradient", "marker", "mask", "metadata"}) | (
    frozenset({"pattern", "radialGradient", "stop", "style", "svg", "switch", "symbol", "textPath", "title", "tspan"})
)
#: Steps of a filter; feImage is left out, since it loads a file.
_FILTER_STEPS = frozenset(
    f"fe{name}"
    for name in (
        *("Blend", "ColorMatrix", "ComponentTransfer", "Composite", "DropShadow", "Flood", "FuncA", "FuncB", "FuncG"),
        *("FuncR", "GaussianBlur", "Merge", "MergeNode", "Morphology", "Offset", "Turbulence"),
    )
)
_KNOWN = _SHAPES | _AROUND | _FILTER_STEPS


class SvgError(ValueError):
    """Raised when a text is no drawing; says why."""


def parse_svg(text: str) -> Element:
    """The root element of a drawing.

    Raises:
        SvgError: the text is no well-formed XML, declares entities, has another root than <svg>, an unknown element,
            or nothing that is drawn.
    """
    try:
        root: Element = fromstring(text.strip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise SvgError(f"no well-formed XML: {error}") from error
    names = [_name(element) for element in root.iter()]
    if names[0] != "svg":
        raise SvgError(f"the root is <{names[0]}>, not <svg>")
    unknown = next((name for name in names if name not in _KNOWN), None)
    if unknown is not None:
        raise SvgError(f"<{unknown}> is no known element of a drawing")
    if not _SHAPES & set(names):
        raise SvgError("nothing is drawn")
    return root


def _name(element: Element) -> str:
    """The local name in SVG's namespace or in none; the whole name in any other."""
    return str(element.tag).removeprefix(_NAMESPACE)
