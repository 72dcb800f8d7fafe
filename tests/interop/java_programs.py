"""Java programs of this project: compiled once a run of the tests, each in a folder that goes with the run.

Decides the compiler's flags and where Curator's jars are. Refuses to know what a program does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from .installation import PeerMissing, find_classpath, find_java
from .processes import undertaker

HOW_TO_GET_JAVAC = "needs a Java compiler: on Debian or Ubuntu install the package default-jdk-headless"
HOW_TO_GET_CURATOR = (
    "needs Apache Curator: on Debian or Ubuntu install the packages libcurator-framework-java, libcurator-recipes-java "
    "and libcurator-discovery-java; elsewhere set CURATOR_HOME to a folder with their jars and those they need"
)

_SOURCES = Path(__file__).parent / "java"
_DEBIAN_JARS = Path("/usr/share/java")
_CURATOR_JARS = (
    "curator-client",
    "curator-framework",
    "curator-recipes",
    "curator-x-discovery",
    "guava",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
)
_DEADLINE = 120.0
# A manifest names jars that Debian does not have; Curator's old recipes are deprecated, and still what people use.
_LINT = "-Xlint:all,-path,-classfile,-deprecation,-try"


def find_curator_classpath() -> str:
    """The class path with Curator and the ZooKeeper client under it.

    Raises:
        PeerMissing: one of the two is not on this machine.
    """
    home = os.environ.get("CURATOR_HOME")
    if home:
        jars = sorted(Path(home).glob("*.jar"))
        if not any(jar.name.startswith("curator-framework") for jar in jars):
            raise PeerMissing(f"CURATOR_HOME={home} has no curator-framework*.jar; {HOW_TO_GET_CURATOR}")
    else:
        jars = [_DEBIAN_JARS / f"{name}.jar" for name in _CURATOR_JARS]
        if not all(jar.exists() for jar in jars):
            raise PeerMissing(HOW_TO_GET_CURATOR)
    return os.pathsep.join([*map(str, jars), find_classpath()])


def find_javac() -> str:
    """The compiler beside `find_java`'s program, or on the PATH.

    Raises:
        PeerMissing: there is none on this machine.
    """
    beside = Path(os.path.realpath(find_java())).with_name("javac")
    javac = str(beside) if beside.exists() else shutil.which("javac")
    if javac is None:
        raise PeerMissing(HOW_TO_GET_JAVAC)
    return javac


@cache
def compiled(sources: str, classpath: str) -> str:
    """Compiles sources of the folder `java`, and returns the class path to run them with.

    Args:
        sources: a pattern: "ClientTour.java", "curator/*.java".
        classpath: what they are compiled against.

    Raises:
        PeerMissing: no compiler on this machine.
        AssertionError: the compiler refused them, or warned; the text holds what it said.
    """
    classes = Path(mkdtemp(prefix="terzetto-java-"))
    # It goes when this process goes, however that happens.
    undertaker.watch(classes)
    files = sorted(map(str, _SOURCES.glob(sources)))
    command = [find_javac(), _LINT, "-Werror", "-encoding", "UTF-8", "-cp", classpath, "-d", str(classes), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
    if done.returncode:
        raise AssertionError(f"javac refused {sources}:\n{done.stdout}{done.stderr}")
    return os.pathsep.join([str(classes), classpath])
