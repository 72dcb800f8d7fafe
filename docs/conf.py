"""How Sphinx builds the documentation: Markdown pages, and a reference drawn from the docstrings."""

from importlib.metadata import version as installed_version

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
    if returns and "AsyncIterator[" in returns and hasattr(obj, "__wrapped__"):
        return signature, returns.replace("collections.abc.AsyncIterator", "contextlib.AbstractAsyncContextManager")
    return None


def setup(app):  # type: ignore[no-untyped-def]
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", _keep_drawings)
    app.connect("autodoc-process-signature", _as_it_is_used)
    app.connect("autodoc-skip-member", _no_tuple_fields)
