"""`AsyncResult`: the outcome of a call that another thread completes. Plus what else programs take from kazoo's module.

Decides who is told of an outcome, and on which thread. Does not know where outcomes come from.
"""

from __future__ import annotations

import contextlib
import functools
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .._tls import make_tls

if TYPE_CHECKING:
    from .threading import SequentialThreadingHandler

T = TypeVar("T")

HAS_FNCTL = True
"""Whether sockets can be told not to be inherited; Python does so by itself."""


class KazooTimeoutError(Exception):
    """A wait was longer than its caller allowed. As in kazoo, no `KazooException`."""


class AsyncResult:
    """The outcome of a call, once it is there. For any thread.

    Attributes:
        value: the result, `None` until it is there, and when the call failed.
        exception: the error of a call that failed, else `None`.
    """

    __slots__ = ("_callbacks", "_done", "_handler", "_waiters", "abandon", "exception", "fetch", "value")

    def __init__(self, handler: SequentialThreadingHandler | None = None) -> None:
        self.value: Any = None
        self.exception: BaseException | None = None
        self.abandon: Callable[[], None] | None = None
        """Called when a thread that waited for the outcome was interrupted (KeyboardInterrupt)."""
        self.fetch: Callable[[float | None], None] | None = None
        """Called once by a thread that is about to wait, with its timeout: it may get the outcome by itself."""
        self._handler = handler
        self._done = False
        self._callbacks: list[Callable[[AsyncResult], Any]] = []
        # A waiter is a lock that is held until the outcome is there. Each is released by whoever takes it off the list.
        self._waiters: list[threading.Lock] = []

    # A method, not the attribute: the outcome may come between two looks, which a type checker cannot know.
    def ready(self) -> bool:
        """Whether there is an outcome."""
        return self._done

    def successful(self) -> bool:
        """Whether there is an outcome, and it is no error."""
        return self._done and self.exception is None

    def set(self, value: Any = None) -> None:
        """The call succeeded."""
        self.value = value
        self._finish()

    def set_exception(self, exception: BaseException) -> None:
        """The call failed."""
        self.exception = exception
        self._finish()

    def __call__(self, source: AsyncResult) -> None:
        """Takes over the outcome of another result, so that one can be linked to the other."""
        if source.exception is None:
            self.set(source.value)
        else:
            self.set_exception(source.exception)

    def _finish(self) -> None:
        self._done = True
        self.abandon = self.fetch = None
        while self._waiters:
            self._waiters.pop().release()
        # Behind `_done`: a callback that is linked from here on is called by its `rawlink`.
        while self._callbacks:
            self._tell(self._callbacks.pop(0))

    def _tell(self, callback: Callable[[AsyncResult], Any]) -> None:
        handler = self._handler
        if handler is not None and handler.running:
            handler.completion_queue.put(functools.partial(callback, self))
        else:
            callback(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the outcome for at most `timeout` seconds; tells whether it is there."""
        if self._done:
            return True
        if self.fetch is not None:
            timeout = self._try_fetch(timeout)
            if self.ready():
                return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        # The outcome may have come before the waiter was on the list.
        if self.ready():
            return True
        try:
            waiter.acquire(timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX)))
        except BaseException:
            self._interrupted()
            raise
        finally:
            with contextlib.suppress(ValueError):  # the outcome has just come, and taken it off
                self._waiters.remove(waiter)
        return self.ready()

    def _try_fetch(self, timeout: float | None) -> float | None:
        """Returns what is left of the timeout."""
        fetch, self.fetch = self.fetch, None
        began = time.monotonic()
        try:
            if fetch is not None:
                fetch(timeout)
        except BaseException:
            self._interrupted()
            raise
        return None if timeout is None else timeout - (time.monotonic() - began)

    def _interrupted(self) -> None:
        abandon = self.abandon
        if abandon is not None and not self.ready():
            abandon()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The result.

        Args:
            block: whether to wait for it.
            timeout: seconds to wait at most, `None` for no limit.

        Raises:
            KazooTimeoutError: there is no outcome (yet).
            BaseException: whatever the call failed with.
        """
        if not self._done and not (block and self.wait(timeout)):
            raise KazooTimeoutError
        if self.exception is not None:
            raise self.exception
        return self.value

    def get_nowait(self) -> Any:
        """The result, which must be there. Raises as `get`."""
        return self.get(block=False)

    def rawlink(self, callback: Callable[[AsyncResult], Any]) -> None:
        """Has `callback(self)` called once there is an outcome: on the handler's worker, or here if none is running.

        kazoo calls all earlier callbacks again when one is added to a finished result; here each is called once.
        """
        self._callbacks.append(callback)
        # Whoever takes it off the list calls it.
        if self._done and self._take_off(callback):
            self._tell(callback)

    def unlink(self, callback: Callable[[AsyncResult], Any]) -> None:
        """Takes a callback back that was not called yet."""
        self._take_off(callback)

    def _take_off(self, callback: Callable[[AsyncResult], Any]) -> bool:
        try:
            self._callbacks.remove(callback)
        except ValueError:
            return False
        return True


def capture_exceptions(async_result: AsyncResult) -> Callable[[Callable[..., T]], Callable[..., T | None]]:
    """A decorator: what the function raises becomes the result's outcome."""

    def decorate(function: Callable[..., T]) -> Callable[..., T | None]:
        @functools.wraps(function)
        def captured(*args: Any, **kwargs: Any) -> T | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  the boundary: the outcome belongs to whoever asks the result
                async_result.set_exception(error)
                return None

        return captured

    return decorate


def wrap(async_result: AsyncResult) -> Callable[[Callable[..., T]], Callable[..., T | None]]:
    """A decorator: what the function returns, unless `None`, or raises becomes the result's outcome."""

    def decorate(function: Callable[..., T]) -> Callable[..., T | None]:
        @capture_exceptions(async_result)
        def wrapped(*args: Any, **kwargs: Any) -> T:
            value = function(*args, **kwargs)
            if value is not None:
                async_result.set(value)
            return value

        return functools.wraps(function)(wrapped)

    return decorate


def fileobj_to_fd(fileobj: Any) -> int:
    """The file descriptor of a file object, or of an int.

    Raises:
        TypeError: it has none.
    """
    fd = fileobj if isinstance(fileobj, int) else getattr(fileobj, "fileno", lambda: None)()
    if not isinstance(fd, int) or fd < 0:
        raise TypeError(f"{fileobj!r} is no file descriptor and has none")
    return fd


def selector_select(
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
    selectors_module: Any = selectors,
) -> tuple[list[Any], list[Any], list[Any]]:
    """`select.select` without its limit on the number of a descriptor. The module is kazoo's and means nothing here."""
    objects: dict[int, Any] = {}
    poll = select.poll()
    wanted: dict[int, int] = {}
    for group, flag in ((rlist, select.POLLIN), (wlist, select.POLLOUT), (xlist, select.POLLPRI)):
        for item in group:
            fd = fileobj_to_fd(item)
            objects[fd] = item
            wanted[fd] = wanted.get(fd, 0) | flag
    for fd, flags in wanted.items():
        poll.register(fd, flags)
    ready = poll.poll(None if timeout is None else timeout * 1000)
    trouble = select.POLLHUP | select.POLLERR | select.POLLNVAL
    found: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for fd, flags in ready:
        for group, flag in zip(found, (select.POLLIN, select.POLLOUT, select.POLLPRI), strict=True):
            if wanted[fd] & flag and flags & (flag | trouble):
                group.append(objects[fd])
    return found


def create_tcp_socket(module: Any) -> Any:
    """A TCP socket of a module like `socket`, as the ones of `create_tcp_connection` are set up."""
    sock = module.socket(module.AF_INET, module.SOCK_STREAM)
    _set_default_tcpsock_options(module, sock)
    return sock


def _set_default_tcpsock_options(module: Any, sock: Any) -> Any:
    sock.setsockopt(module.IPPROTO_TCP, module.TCP_NODELAY, 1)
    return sock


def create_tcp_connection(
    module: Any,
    address: tuple[str, int],
    hostname: str | None = None,
    timeout: float | None = None,
    use_ssl: bool = False,
    ca: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    keyfile_password: str | None = None,
    verify_certs: bool = True,
    check_hostname: bool = False,
    options: int | None = None,
    ciphers: str | None = None,
) -> Any:
    """A connected socket, for programs that talk to a server themselves. The client does not use it.

    Args:
        module: like `socket`.
        address: host and port.
        hostname: what the server's certificate must be for; the address's host if not given.
        timeout: seconds for all of it, and of the socket.
        use_ssl, ca, certfile, keyfile, keyfile_password, verify_certs, check_hostname: TLS, as for the client.
        options, ciphers: of the TLS context.

    Raises:
        OSError: not connected, in time.
        ConfigurationError: arguments contradict each other (a `ValueError`).
    """
    ends = None if timeout is None else time.time() + timeout
    context = make_tls(
        use_ssl=use_ssl,
        ca=ca,
        certfile=certfile,
        keyfile=keyfile,
        keyfile_password=keyfile_password,
        verify_certs=verify_certs,
        check_hostname=check_hostname,
        ciphers=ciphers,
        options=options,
    )
    left = None if ends is None else ends - time.time()
    # 0 would make it a socket that does not block.
    if left is not None and left <= 0:
        raise TimeoutError(f"no time is left to connect to {address}")
    sock = module.create_connection(address, left)
    try:
        _set_default_tcpsock_options(module, sock)
        return sock if context is None else context.wrap_socket(sock, server_hostname=hostname or address[0])
    except BaseException:
        sock.close()
        raise


def create_socket_pair(module: Any, port: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two connected non-blocking sockets. The arguments are kazoo's and mean nothing here."""
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    return first, second
