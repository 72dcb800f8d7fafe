"""How Sphinx builds the documentation: Markdown pages, and a reference drawn from the docstrings."""

from importlib.metadata import version as installed_version

project = "terzetto"
copyright = "the terzetto authors"  # Sphinx's name for it
version = release = installed_version("terzetto")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]

html_theme = "furo"
html_title = f"terzetto {release}"
html_theme_options = {"source_directory": "docs/"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# In docstrings `x` is code, as in the Markdown around them.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
_OWN_PAGES = ("terzetto.client.errors", "terzetto.client.values", "terzetto.client.paths")

# As fields of the class: autodoc lists the members of a NamedTuple itself.
napoleon_use_ivar = True


def _keep_drawings(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]  # Sphinx's callback
    """An indented block of a module's docstring is a drawing (the tree of exceptions), to be shown as it stands."""
    if what != "module":
        return
    for index in range(len(lines) - 1, 1, -1):
        if lines[index].startswith("    ") and not lines[index - 1] and not lines[index - 2].startswith(" "):
            lines[index:index] = ["::", ""]


def _each_on_one_page(app, what, name, obj, skip, options):  # type: ignore[no-untyped-def]
    """Errors and values have pages of their own, although they are imported from `terzetto.client`."""
    if app.env.docname == "reference/client" and getattr(obj, "__module__", "") in _OWN_PAGES:
        return True
    return None


def setup(app):  # type: ignore[no-untyped-def]
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", _keep_drawings)
    app.connect("autodoc-skip-member", _each_on_one_page)
