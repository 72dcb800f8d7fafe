package tour;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Stat;

/**
 * One client of Apache's, and everything that it is told, written down. Decides what is left out: clocks, and session ids
 * but for whose they are.
 */
final class Session implements AutoCloseable {
    static final long DEADLINE_SECONDS = 30;

    final ZooKeeper zk;
    private final String name;
    private final LinkedBlockingQueue<String> events = new LinkedBlockingQueue<>();

    Session(String name, String hosts, int timeoutMs) throws Exception {
        this.name = name;
        zk = new ZooKeeperAdmin(hosts, timeoutMs, watcher("default"));
        expectState("SyncConnected");
    }

    /** A client of a session that there is, or is thought to be. */
    Session(String name, String hosts, int timeoutMs, long id, byte[] password) throws Exception {
        this.name = name;
        zk = new ZooKeeper(hosts, timeoutMs, watcher("default"), id, password);
    }

    /** A watcher that writes down what it is told. */
    Watcher watcher(String label) {
        return event -> events.add(label + " " + shown(event));
    }

    private static String shown(WatchedEvent event) {
        return event.getType() == Watcher.Event.EventType.None
                ? event.getState().name()
                : event.getType() + " " + event.getPath();
    }

    /** Prints what comes of a call. */
    void note(String what, Call call) throws Exception {
        String outcome;
        try {
            outcome = shown(call.run());
        } catch (KeeperException error) {
            outcome = error.code().name();
            if (error.getResults() != null) {
                outcome += " " + shown(error.getResults());
            }
        } catch (IllegalArgumentException error) {
            outcome = error.toString();
        }
        System.out.println(name + " " + what + " -> " + outcome);
    }

    /** Prints the events up to now; at least so many are waited for. */
    void events(String what, int count) throws Exception {
        List<String> heard = new ArrayList<>();
        while (heard.size() < count) {
            String event = events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
            if (event == null) {
                throw new IllegalStateException(name + " waited for " + count + " events, heard " + heard);
            }
            heard.add(event);
        }
        // The event thread calls back in order: what was to be told before this answer has been told then.
        CountDownLatch told = new CountDownLatch(1);
        zk.exists("/", false, (code, path, context, stat) -> told.countDown(), null);
        if (!told.await(DEADLINE_SECONDS, TimeUnit.SECONDS)) {
            throw new IllegalStateException(name + " has no event thread");
        }
        events.drainTo(heard);
        System.out.println(name + " events " + what + " -> " + heard.stream().sorted().toList());
    }

    /** Waits for a state, and drops what came before it. */
    void expectState(String state) throws Exception {
        String event;
        do {
            event = events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
            if (event == null) {
                throw new IllegalStateException(name + " never became " + state);
            }
        } while (!event.equals("default " + state));
    }

    private String shown(Object value) {
        if (value == null) {
            return "null";
        }
        if (value instanceof byte[] data) {
            return data.length > 100 ? data.length + " bytes" : "'" + new String(data, StandardCharsets.UTF_8) + "'";
        }
        if (value instanceof Stat stat) {
            return shown(stat);
        }
        if (value instanceof OpResult result) {
            return shown(result);
        }
        if (value instanceof ClientInfo info) {
            return info.getAuthScheme() + ":" + info.getUser();
        }
        if (value instanceof ACL acl) {
            return acl.getPerms() + ":" + acl.getId().getScheme() + ":" + acl.getId().getId();
        }
        if (value instanceof Object[] parts) {
            return Arrays.stream(parts).map(this::shown).collect(Collectors.joining(" "));
        }
        if (value instanceof List<?> items) {
            boolean ordered = items.isEmpty() || items.get(0) instanceof OpResult;
            return items.stream()
                    .map(this::shown)
                    .sorted(ordered ? Comparator.comparing(item -> 0) : Comparator.naturalOrder())
                    .toList()
                    .toString();
        }
        return value.toString();
    }

    private String shown(Stat stat) {
        if (stat == null) {
            return "null";
        }
        long owner = stat.getEphemeralOwner();
        String whose = owner == 0 ? "nobody" : owner == zk.getSessionId() ? "me" : "another";
        return "{czxid=%d mzxid=%d pzxid=%d version=%d cversion=%d aversion=%d owner=%s length=%d children=%d}"
                .formatted(
                        stat.getCzxid(), stat.getMzxid(), stat.getPzxid(), stat.getVersion(), stat.getCversion(),
                        stat.getAversion(), whose, stat.getDataLength(), stat.getNumChildren());
    }

    private String shown(OpResult result) {
        if (result instanceof OpResult.CreateResult created) {
            return "create " + created.getPath() + " " + shown(created.getStat());
        }
        if (result instanceof OpResult.SetDataResult set) {
            return "set " + shown(set.getStat());
        }
        if (result instanceof OpResult.GetDataResult data) {
            return "data " + shown(data.getData()) + " " + shown(data.getStat());
        }
        if (result instanceof OpResult.GetChildrenResult children) {
            return "children " + shown(children.getChildren());
        }
        if (result instanceof OpResult.ErrorResult error) {
            return "error " + KeeperException.Code.get(error.getErr());
        }
        return result.getClass().getSimpleName();
    }

    @Override
    public void close() throws Exception {
        zk.close();
    }

    /** One call of the client. */
    interface Call {
        Object run() throws Exception;
    }
}
