import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/**
 * Apache's own Java client, doing each of its calls once for the golden frames. Decides only the order of the calls.
 *
 * <p>Usage: VectorClient HOSTS (oneshot | persistent | sasl | sasl-refused). Prints "cut" when its connection may be
 * cut, then waits to be connected again. Ends with status 0, or with 1 and a stack trace.
 */
public final class VectorClient {
    private static final List<ACL> OPEN = ZooDefs.Ids.OPEN_ACL_UNSAFE;
    private static final long DEADLINE_SECONDS = 30;

    private final LinkedBlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
    private final ZooKeeperAdmin zk;

    private VectorClient(String hosts) throws Exception {
        zk = new ZooKeeperAdmin(hosts, 10_000, events::add);
    }

    public static void main(String[] arguments) throws Exception {
        VectorClient client = new VectorClient(arguments[0]);
        switch (arguments[1]) {
            case "oneshot" -> client.oneShot();
            case "persistent" -> client.persistent();
            case "sasl" -> client.sasl();
            case "sasl-refused" -> client.saslRefused();
            default -> throw new IllegalArgumentException(arguments[1]);
        }
        client.zk.close();
    }

    private void await(Watcher.Event.KeeperState state) throws Exception {
        while (true) {
            WatchedEvent event = events.poll(DEADLINE_SECONDS, TimeUnit.SECONDS);
            if (event == null) {
                throw new IllegalStateException("no event " + state);
            }
            if (event.getType() == Watcher.Event.EventType.None && event.getState() == state) {
                return;
            }
        }
    }

    private void reconnect() throws Exception {
        System.out.println("cut");
        await(Watcher.Event.KeeperState.Disconnected);
        await(Watcher.Event.KeeperState.SyncConnected);
    }

    private interface Call {
        void run() throws Exception;
    }

    private static void expect(KeeperException.Code code, Call call) throws Exception {
        try {
            call.run();
        } catch (KeeperException error) {
            if (error.code() == code) {
                return;
            }
            throw error;
        }
        throw new IllegalStateException("no error " + code);
    }

    private void oneShot() throws Exception {
        zk.addAuthInfo("digest", "user:secret".getBytes(StandardCharsets.UTF_8));
        await(Watcher.Event.KeeperState.SyncConnected);
        byte[] data = "data".getBytes(StandardCharsets.UTF_8);
        zk.create("/java", data, OPEN, CreateMode.PERSISTENT);
        for (CreateMode mode : CreateMode.values()) {
            String path = "/java/" + mode.name().toLowerCase();
            long ttl = mode.isTTL() ? 3_600_000 : -1;
            zk.create(path, data, OPEN, mode, new Stat(), ttl);
        }
        zk.create("/java/mine", null, ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.exists("/java", false);
        zk.exists("/java/none", false);
        zk.getData("/java", false, new Stat());
        zk.getChildren("/java", false);
        zk.getChildren("/java", false, new Stat());
        zk.getACL("/java/mine", new Stat());
        zk.setACL("/java/mine", OPEN, 0);
        zk.setData("/java", new byte[0], 0);
        expect(KeeperException.Code.BADVERSION, () -> zk.setData("/java", data, 0));
        zk.getAllChildrenNumber("/java");
        zk.getEphemerals();
        zk.getEphemerals("/java");
        zk.whoAmI();
        zk.getConfig(false, new Stat());
        CountDownLatch synced = new CountDownLatch(1);
        zk.sync("/java", (code, path, context) -> synced.countDown(), null);
        synced.await(DEADLINE_SECONDS, TimeUnit.SECONDS);
        expect(KeeperException.Code.RECONFIGDISABLED, () -> zk.reconfigure("", "3", null, -1, new Stat()));
        multi(data);
        zk.exists("/java/later", true);
        zk.getData("/java", true, new Stat());
        zk.getChildren("/java", true);
        reconnect();
        zk.create("/java/later", data, OPEN, CreateMode.PERSISTENT);
        zk.delete("/java/later", -1);
    }

    private void multi(byte[] data) throws Exception {
        zk.multi(
                List.of(
                        Op.create("/java/multi", data, OPEN, CreateMode.PERSISTENT),
                        Op.check("/java/multi", 0),
                        Op.setData("/java/multi", data, 0),
                        Op.delete("/java/multi", 1),
                        Op.create("/java/box", data, OPEN, CreateMode.CONTAINER),
                        Op.create("/java/ttl", data, OPEN, CreateMode.PERSISTENT_WITH_TTL, 60_000)));
        expect(
                KeeperException.Code.NONODE,
                () ->
                        zk.multi(
                                List.of(
                                        Op.create("/java/never", data, OPEN, CreateMode.PERSISTENT),
                                        Op.delete("/java/none", -1),
                                        Op.check("/java", -1))));
        zk.multi(List.of(Op.getData("/java"), Op.getChildren("/java/box"), Op.getData("/java/none")));
    }

    private void persistent() throws Exception {
        await(Watcher.Event.KeeperState.SyncConnected);
        zk.create("/java-watched", null, OPEN, CreateMode.PERSISTENT);
        Watcher mine = event -> {};
        zk.addWatch("/java-watched", mine, AddWatchMode.PERSISTENT);
        zk.addWatch("/java-watched/deep", mine, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.addWatch("/java-watched/gone", mine, AddWatchMode.PERSISTENT);
        zk.removeWatches("/java-watched/gone", mine, Watcher.WatcherType.Any, false);
        zk.getData("/java-watched", mine, null);
        reconnect();
        zk.create("/java-watched/deep", null, OPEN, CreateMode.PERSISTENT);
        zk.create("/java-watched/deep/er", null, OPEN, CreateMode.PERSISTENT);
        zk.removeAllWatches("/java-watched/deep", Watcher.WatcherType.Any, false);
        zk.delete("/java-watched/deep/er", -1);
    }

    private void sasl() throws Exception {
        await(Watcher.Event.KeeperState.SaslAuthenticated);
        zk.create("/java-sasl", null, ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        zk.getACL("/java-sasl", new Stat());
        zk.whoAmI();
    }

    private void saslRefused() throws Exception {
        await(Watcher.Event.KeeperState.AuthFailed);
    }
}
