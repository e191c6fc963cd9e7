"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no network."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.writers.html5 import HTML5Translator

_ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
# What the converter does not know, in its terms.
_REWRITTEN = [(re.compile(r"\\(Big|big)[lr]?\\[lr]Vert"), r"\\\1‖"), (re.compile(r"\\_"), "_")]


def to_mathml(latex: str, display: str) -> str:
    """A formula as an element `math`; whatever would be drawn as raw LaTeX stops the build."""
    for pattern, replacement in _REWRITTEN:
        latex = pattern.sub(replacement, latex)
    if r"\\" in _ENVIRONMENT.sub("", latex):  # several lines, as Sphinx reads them
        latex = rf"\begin{{split}}{latex}\end{{split}}"
    element = convert(latex, display=display)
    if "\\" in element or "<mi>&</mi>" in element:
        raise ValueError(f"MathML has no {latex!r}: {element}")
    # A bar without a partner would grow with the whole line.
    return element.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(f'<span class="math">{to_mathml(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{to_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
