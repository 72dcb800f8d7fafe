"""How Sphinx builds the documentation: Markdown pages, and a reference drawn from the docstrings."""

import re
from importlib.metadata import version as installed_version

from docutils import nodes

project = "terzetto"
copyright = "the terzetto authors"  # Sphinx's name for it
version = release = installed_version("terzetto")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"terzetto {release}"
html_theme_options = {"source_directory": "docs/"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# In docstrings `x` is code, as in the Markdown around them.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# As fields of the class: autodoc lists the members of a NamedTuple itself.
napoleon_use_ivar = True

_MADE_DEFAULT = re.compile(r"<(?:(?:built-in )?function (\w+)|object object|factory)>")
"""How a default without a literal is shown: it says nothing, and keeps Sphinx from reading the signature."""


def _keep_drawings(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]  # Sphinx's callback
    """An indented block of a module's docstring is a drawing (the tree of exceptions), to be shown as it stands."""
    if what != "module":
        return
    for index in range(len(lines) - 1, 1, -1):
        if lines[index].startswith("    ") and not lines[index - 1] and not lines[index - 2].startswith(" "):
            lines[index:index] = ["::", ""]


def _no_tuple_fields(app, what, name, obj, skip, options):  # type: ignore[no-untyped-def]
    """Fields of a NamedTuple stand in its signature, and in its docstring where there is something to say."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _as_it_is_used(app, what, name, obj, options, signature, returns):  # type: ignore[no-untyped-def]
    """Errors are made by terzetto: how, is noise. What `asynccontextmanager` made is no iterator to its callers."""
    if what == "exception" and signature:
        return "", None
    if signature and (readable := _MADE_DEFAULT.sub(lambda found: found[1] or "...", signature)) != signature:
        return readable, returns
    if returns and "AsyncIterator[" in returns and hasattr(obj, "__wrapped__"):
        return signature, returns.replace("collections.abc.AsyncIterator", "contextlib.AbstractAsyncContextManager")
    if returns and "abc.Iterator[" in returns and hasattr(obj, "__wrapped__"):
        return signature, returns.replace("collections.abc.Iterator", "contextlib.AbstractContextManager")
    return None


def _no_type_before_the_colon(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """napoleon takes what stands before a colon in the first line of a property's docstring for its type."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment; a first line that is empty napoleon skips


def _no_dash_before_nothing(app, doctree):  # type: ignore[no-untyped-def]
    """Behind the names of errors that need no explanation Sphinx puts a dash all the same."""
    for field in doctree.findall(nodes.field):
        for paragraph in field.findall(nodes.paragraph):
            while paragraph.children and paragraph.children[-1].astext().strip() in ("", "--", "\N{EN DASH}"):
                paragraph.pop()


def setup(app):  # type: ignore[no-untyped-def]
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", _keep_drawings)
    app.connect("autodoc-process-docstring", _no_type_before_the_colon, priority=100)  # napoleon's is 500
    app.connect("doctree-read", _no_dash_before_nothing)
    app.connect("autodoc-process-signature", _as_it_is_used)
    app.connect("autodoc-skip-member", _no_tuple_fields)
