"""Java programs of this project: compiled once a run of the tests, each in a folder that goes with the run.

Decides the compiler's flags, where Curator's jars are, and when Apache's command line client may leave. Refuses to
know what a program does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
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


def talk_to_zkcli(hosts: str, commands: str, last: str, folder: Path, flags: Sequence[str] = ()) -> tuple[str, str]:
    """What zkCli writes to standard output and standard error on commands.

    Events are printed by a thread of its own that it does not wait for when it leaves: it is told to once it has
    printed one that stands behind all that are wanted.

    Args:
        hosts: the connect string.
        commands: one a line, without "quit".
        last: a part of the event's line.
        folder: to work in.
        flags: of the virtual machine.

    Raises:
        AssertionError: it ended, or hung, without that line; the text holds what it wrote.
    """
    command = [find_java(), *flags, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", find_classpath(),
               "org.apache.zookeeper.ZooKeeperMain", "-server", hosts]  # fmt: skip
    output = ""
    with (
        (folder / "zkcli-errors").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", cwd=folder
        ) as cli,
    ):
        watchdog = threading.Timer(_DEADLINE, cli.kill)
        watchdog.start()
        try:
            assert cli.stdin is not None
            assert cli.stdout is not None
            cli.stdin.write(commands)
            cli.stdin.flush()
            while last not in output:
                line = cli.stdout.readline()
                assert line, f"zkCli ended or hung: {output}"
                output += line
            cli.stdin.write("quit\n")
            cli.stdin.close()
            output += cli.stdout.read()
        finally:
            watchdog.cancel()
            cli.kill()
        errors.seek(0)
        return output, errors.read()
