"""Where Apache ZooKeeper and Java are on this machine.

Decides which jars make a class path and what to tell somebody who has none. Refuses to start anything.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HOW_TO_GET = (
    "needs Apache ZooKeeper and Java: on Debian or Ubuntu install the packages zookeeper and default-jre-headless "
    "(apt-get install --no-install-recommends zookeeper default-jre-headless); elsewhere unpack an Apache ZooKeeper "
    "release, set ZOOKEEPER_HOME to its folder and put java on the PATH"
)

_DEBIAN_JARS = Path("/usr/share/java")
# What the server, its Netty connection factory (TLS) and its command line client need; Debian's zookeeper.jar names
# most of them in its manifest, but not Netty's codec, resolver and unix-common, nor a logger.
_DEBIAN_JAR_NAMES = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "metrics-core",
    "snappy-java",
    "commons-cli",
    "commons-io",
    "commons-lang3",
    "jline",
    "netty-common",
    "netty-buffer",
    "netty-codec",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
)
_INDISPENSABLE = ("zookeeper", "zookeeper-jute", "slf4j-api", "metrics-core", "snappy-java")


class PeerMissing(Exception):
    """This machine has no ZooKeeper or no Java; the text says how to get them."""


def find_classpath() -> str:
    """The Java class path with ZooKeeper's server and client.

    Raises:
        PeerMissing: there is none on this machine.
    """
    home = os.environ.get("ZOOKEEPER_HOME")
    if home:
        jars = sorted(Path(home, "lib").glob("*.jar"))
        if not any(jar.name.startswith("zookeeper-") for jar in jars):
            raise PeerMissing(f"ZOOKEEPER_HOME={home} has no lib/zookeeper-*.jar; {HOW_TO_GET}")
    else:
        jars = [jar for name in _DEBIAN_JAR_NAMES if (jar := _DEBIAN_JARS / f"{name}.jar").exists()]
        if not {jar.stem for jar in jars}.issuperset(_INDISPENSABLE):
            raise PeerMissing(HOW_TO_GET)
    return os.pathsep.join(map(str, jars))


def find_java() -> str:
    """The `java` program of JAVA_HOME or the PATH.

    Raises:
        PeerMissing: there is none on this machine.
    """
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(java_home, "bin")) if java_home else None
    java = java or shutil.which("java")
    if java is None:
        raise PeerMissing(HOW_TO_GET)
    return java
