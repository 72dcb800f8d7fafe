package tour;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/**
 * Every call of Apache's Java client, right and wrong, on a server that nobody else uses; what comes of it is printed.
 *
 * <p>Usage: tour.Tour HOSTS. The server has TTL znodes, and sweeps every few hundred milliseconds. Decides only what is
 * asked, in which order; two servers are alike when they make this program print the same.
 */
public final class Tour {
    private static final List<ACL> OPEN = Ids.OPEN_ACL_UNSAFE;
    private static final int TIMEOUT_MS = 10_000;
    private static final long AN_HOUR = 3_600_000;
    private static final byte[] DATA = bytes("data");

    private final String hosts;
    private final Session a;
    private final Session b;

    private Tour(String hosts) throws Exception {
        this.hosts = hosts;
        a = new Session("a", hosts, TIMEOUT_MS);
        b = new Session("b", hosts, TIMEOUT_MS);
    }

    public static void main(String[] arguments) throws Exception {
        Tour tour = new Tour(arguments[0]);
        tour.creates();
        tour.reads();
        tour.writes();
        tour.multis();
        tour.accessLists();
        tour.oneShotWatches();
        tour.persistentWatches();
        tour.asynchronous();
        tour.sizes();
        tour.ephemerals();
        tour.sweeps();
        tour.reconnects();
        tour.lostSessions();
        tour.a.close();
        tour.b.close();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private String create(Session session, String path) throws Exception {
        return session.zk.create(path, DATA, OPEN, CreateMode.PERSISTENT);
    }

    private void creates() throws Exception {
        a.note("create", () -> create(a, "/c"));
        a.note("create again", () -> create(a, "/c"));
        a.note("create without a parent", () -> create(a, "/none/such"));
        a.note("create null data", () -> a.zk.create("/c/null", null, OPEN, CreateMode.PERSISTENT));
        a.note("create ü中", () -> create(a, "/c/ü中"));
        for (String path : List.of("c", "/c/", "/c//d", "/c/.", "/c/../d", "/c/\u0000", "/c/\u0001", "/c/\ue000", "")) {
            a.note("create " + path.codePoints().boxed().toList(), () -> create(a, path));
        }
        for (CreateMode mode : CreateMode.values()) {
            long ttl = mode.isTTL() ? AN_HOUR : -1;
            String path = "/c/" + mode.name().toLowerCase() + "-";
            Stat stat = new Stat();
            a.note("create " + mode, () -> a.zk.create(path, DATA, OPEN, mode, stat, ttl) + " " + stat.getVersion());
            a.note("stat of " + mode, () -> a.zk.exists(mode.isSequential() ? "/c" : path, false));
            if (!mode.isTTL()) {
                a.note("create plainly " + mode, () -> a.zk.create(path + "x", DATA, OPEN, mode));
            }
            a.note("create below " + mode, () -> create(a, path + "/child"));
        }
        a.note("ttl 0", () -> a.zk.create("/c/t", DATA, OPEN, CreateMode.PERSISTENT_WITH_TTL, null, 0));
        a.note("ttl 2^40", () -> a.zk.create("/c/t", DATA, OPEN, CreateMode.PERSISTENT_WITH_TTL, null, 1L << 40));
        a.note("ttl 2^40-1", () -> a.zk.create("/c/t", DATA, OPEN, CreateMode.PERSISTENT_WITH_TTL, null, (1L << 40) - 1));
        a.note("sequential below /c/", () -> a.zk.create("/c/", DATA, OPEN, CreateMode.PERSISTENT_SEQUENTIAL));
        a.note("create in /zookeeper", () -> create(a, "/zookeeper/mine"));
        a.note("create /", () -> create(a, "/"));
    }

    private void reads() throws Exception {
        for (String path : List.of("/", "/c", "/c/null", "/c/ü中", "/none", "/zookeeper", "/zookeeper/config")) {
            Stat stat = new Stat();
            a.note("exists " + path, () -> a.zk.exists(path, false));
            a.note("data " + path, () -> new Object[] {a.zk.getData(path, false, stat), stat});
            a.note("children " + path, () -> a.zk.getChildren(path, false));
            a.note("children and stat " + path, () -> new Object[] {a.zk.getChildren(path, false, stat), stat});
            a.note("acl " + path, () -> new Object[] {a.zk.getACL(path, stat), stat});
            a.note("count " + path, () -> a.zk.getAllChildrenNumber(path));
        }
        a.note("ephemerals", () -> a.zk.getEphemerals());
        a.note("ephemerals of b", () -> b.zk.getEphemerals());
        a.note("ephemerals /c/e", () -> a.zk.getEphemerals("/c/e"));
        a.note("ephemerals /none", () -> a.zk.getEphemerals("/none"));
        a.note("who", () -> a.zk.whoAmI());
        a.note("config", () -> a.zk.getConfig(false, new Stat()));
        a.note("reconfigure", () -> ((ZooKeeperAdmin) a.zk).reconfigure("", "3", null, -1, new Stat()));
    }

    private void writes() throws Exception {
        a.note("set", () -> a.zk.setData("/c", bytes("new"), 0));
        a.note("set old version", () -> a.zk.setData("/c", bytes("never"), 0));
        a.note("set any", () -> a.zk.setData("/c", null, -1));
        a.note("set other negative", () -> a.zk.setData("/c", null, -2));
        a.note("set none", () -> a.zk.setData("/none", DATA, -1));
        a.note("set /", () -> a.zk.setData("/", DATA, -1));
        a.note("set config", () -> a.zk.setData("/zookeeper/config", DATA, -1));
        a.note("delete with children", () -> deleted(a, "/c", -1));
        a.note("delete wrong version", () -> deleted(a, "/c/null", 3));
        a.note("delete", () -> deleted(a, "/c/null", 0));
        a.note("delete again", () -> deleted(a, "/c/null", 0));
        for (String path : List.of("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "/zookeeper/mine")) {
            a.note("delete " + path, () -> deleted(a, path, -1));
        }
        a.note("parent", () -> b.zk.exists("/c", false));
    }

    private static Object deleted(Session session, String path, int version) throws Exception {
        session.zk.delete(path, version);
        return "deleted";
    }

    private void multis() throws Exception {
        create(a, "/m");
        a.note("multi of all", () -> a.zk.multi(List.of(
                Op.create("/m/p", DATA, OPEN, CreateMode.PERSISTENT),
                Op.create("/m/e", DATA, OPEN, CreateMode.EPHEMERAL),
                Op.create("/m/s-", DATA, OPEN, CreateMode.PERSISTENT_SEQUENTIAL),
                Op.create("/m/s-", DATA, OPEN, CreateMode.EPHEMERAL_SEQUENTIAL),
                Op.create("/m/box", DATA, OPEN, CreateMode.CONTAINER),
                Op.create("/m/ttl", DATA, OPEN, CreateMode.PERSISTENT_WITH_TTL, AN_HOUR),
                Op.check("/m/p", 0),
                Op.setData("/m/p", bytes("set"), 0),
                Op.check("/m/p", 1),
                Op.delete("/m/p", 1),
                Op.create("/m/p", null, OPEN, CreateMode.PERSISTENT))));
        a.note("empty multi", () -> a.zk.multi(new ArrayList<>()));
        a.note("multi fails first", () -> a.zk.multi(List.of(
                Op.check("/m", 9), Op.delete("/m/p", -1))));
        a.note("multi fails in the middle", () -> a.zk.multi(List.of(
                Op.setData("/m", DATA, -1), Op.create("/m/p", DATA, OPEN, CreateMode.PERSISTENT), Op.delete("/m/e", -1))));
        a.note("multi fails last", () -> a.zk.multi(List.of(
                Op.delete("/m/p", -1), Op.create("/m/p/q", DATA, OPEN, CreateMode.PERSISTENT))));
        a.note("multi of one bad version", () -> a.zk.multi(List.of(Op.setData("/m", DATA, 77))));
        a.note("multi of a missing check", () -> a.zk.multi(List.of(Op.check("/none", -1))));
        a.note("transaction", () -> a.zk.transaction().check("/m", -1).setData("/m", DATA, -1).commit());
        a.note("reads", () -> a.zk.multi(List.of(
                Op.getData("/m"), Op.getChildren("/m"), Op.getData("/none"), Op.getChildren("/none"))));
        a.note("reads of none", () -> a.zk.multi(List.of(Op.getData("/none"))));
        b.note("what multis left", () -> new Object[] {b.zk.exists("/m", false), b.zk.getChildren("/m", false)});
    }

    private void accessLists() throws Exception {
        Id ann = new Id("digest", DigestAuthenticationProvider.generateDigest("ann:secret"));
        Id anyone = Ids.ANYONE_ID_UNSAFE;
        a.zk.addAuthInfo("digest", bytes("ann:secret"));
        a.note("who", () -> a.zk.whoAmI());
        create(a, "/acl");
        a.note("creator", () -> a.zk.create("/acl/mine", DATA, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        b.note("creator without identity", () -> b.zk.create("/acl/b", DATA, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        for (Session session : List.of(a, b)) {
            Stat stat = new Stat();
            session.note("data", () -> session.zk.getData("/acl/mine", false, stat));
            session.note("children", () -> session.zk.getChildren("/acl/mine", false));
            session.note("acl", () -> session.zk.getACL("/acl/mine", stat));
            session.note("set", () -> session.zk.setData("/acl/mine", DATA, -1));
            session.note("set acl", () -> session.zk.setACL("/acl/mine", Arrays.asList(new ACL(Perms.ALL, ann)), -1));
            session.note("create below", () -> create(session, "/acl/mine/child"));
            session.note("delete below", () -> deleted(session, "/acl/mine/child", -1));
            session.note("check", () -> session.zk.multi(List.of(Op.check("/acl/mine", -1))));
            session.note("reads", () -> session.zk.multi(List.of(Op.getData("/acl/mine"), Op.getData("/acl"))));
            session.note("count", () -> session.zk.getAllChildrenNumber("/acl/mine"));
        }
        List<ACL> mixed = Arrays.asList(new ACL(Perms.ADMIN, anyone), new ACL(Perms.READ, ann));
        a.note("set acl version", () -> a.zk.setACL("/acl/mine", mixed, 1));
        a.note("set acl old version", () -> a.zk.setACL("/acl/mine", mixed, 1));
        a.note("set acl of none", () -> a.zk.setACL("/none", OPEN, -1));
        b.note("acl with admin only", () -> b.zk.getACL("/acl/mine", null));
        b.note("data with admin only", () -> b.zk.getData("/acl/mine", false, null));
        a.note("duplicates", () -> a.zk.setACL("/acl", Arrays.asList(OPEN.get(0), OPEN.get(0)), -1));
        a.note("acl", () -> a.zk.getACL("/acl", null));
        for (String id : List.of("digest:nocolon", "world:nobody", "ip:127.0.0.1", "ip:10.0.0.0/8", "ip:1.2.3.4/33",
                "super:", "unheard:of", "x509:CN=x", "sasl:bob", "ip:not-one", "auth:")) {
            String[] parts = id.split(":", 2);
            List<ACL> acl = Arrays.asList(OPEN.get(0), new ACL(Perms.READ, new Id(parts[0], parts[1])));
            b.note("set acl " + id, () -> b.zk.setACL("/acl", acl, -1));
        }
        b.note("perms 0", () -> b.zk.create("/acl/0", DATA, Arrays.asList(new ACL(0, anyone)), CreateMode.PERSISTENT));
        b.note("no acl", () -> b.zk.create("/acl/no", DATA, new ArrayList<>(), CreateMode.PERSISTENT));
        b.note("delete what is another's", () -> deleted(b, "/acl/mine", -1));
    }

    private void oneShotWatches() throws Exception {
        create(a, "/w");
        a.note("watch what is not there", () -> a.zk.exists("/w/x", a.watcher("exists")));
        a.note("watch data of none", () -> a.zk.getData("/w/none", a.watcher("never"), null));
        a.note("watch data", () -> a.zk.getData("/w", a.watcher("data"), null));
        a.note("watch data by default", () -> a.zk.getData("/w", true, null));
        a.note("watch children", () -> a.zk.getChildren("/w", a.watcher("children")));
        create(b, "/w/x");
        a.events("create", 2);
        b.zk.setData("/w", bytes("1"), -1);
        b.zk.setData("/w", bytes("2"), -1);
        a.events("set twice", 2);
        a.zk.exists("/w/x", a.watcher("exists"));
        a.zk.getData("/w/x", a.watcher("data"), null);
        a.zk.getChildren("/w/x", a.watcher("children"));
        a.zk.getChildren("/w", a.watcher("parent"));
        deleted(b, "/w/x", -1);
        a.events("delete", 4);
        a.zk.exists("/w", a.watcher("own"));
        a.note("own set", () -> a.zk.setData("/w", DATA, -1));
        a.events("own set", 1);
        a.zk.getData("/w", a.watcher("acl"), null);
        b.zk.setACL("/w", OPEN, -1);
        a.events("set acl tells nobody", 0);
        b.zk.multi(List.of(Op.setData("/w", DATA, -1), Op.create("/w/m", DATA, OPEN, CreateMode.EPHEMERAL)));
        a.events("multi", 1);
        removals();
    }

    private void removals() throws Exception {
        var one = a.watcher("one");
        a.zk.exists("/w", one);
        a.zk.getChildren("/w", one);
        a.note("remove children", () -> removed(a, "/w", WatcherType.Children));
        a.note("remove children again", () -> removed(a, "/w", WatcherType.Children));
        a.note("remove data", () -> {
            a.zk.removeWatches("/w", one, WatcherType.Data, false);
            return "removed";
        });
        a.note("remove another's", () -> removed(b, "/w", WatcherType.Any));
        a.events("removals", 2);
        b.zk.setData("/w", DATA, -1);
        a.events("after removals", 0);
    }

    private static Object removed(Session session, String path, WatcherType type) throws Exception {
        session.zk.removeAllWatches(path, type, false);
        return "removed";
    }

    private void persistentWatches() throws Exception {
        a.zk.addWatch("/pw", a.watcher("persistent"), AddWatchMode.PERSISTENT);
        a.zk.addWatch("/pr", a.watcher("recursive"), AddWatchMode.PERSISTENT_RECURSIVE);
        for (String top : List.of("/pw", "/pr")) {
            for (int round = 0; round < 2; round++) {
                create(b, top);
                create(b, top + "/x");
                create(b, top + "/x/y");
                b.zk.setData(top, DATA, -1);
                b.zk.setData(top + "/x", DATA, -1);
                deleted(b, top + "/x/y", -1);
                deleted(b, top + "/x", -1);
                deleted(b, top, -1);
            }
        }
        a.events("persistent", 2 * (5 + 8));
        a.note("remove persistent", () -> removed(a, "/pw", WatcherType.Any));
        a.note("remove recursive", () -> removed(a, "/pr", WatcherType.Any));
        a.note("remove nothing", () -> removed(a, "/pr", WatcherType.Any));
        create(b, "/pw");
        a.events("after removal", 2);
    }

    private void asynchronous() throws Exception {
        int calls = 12;
        CountDownLatch done = new CountDownLatch(calls);
        List<String> seen = new ArrayList<>();
        class Told {
            void that(String what, int code, Object value) {
                seen.add(what + " " + code + " " + value);
                done.countDown();
            }
        }
        Told told = new Told();
        a.zk.create("/async", DATA, OPEN, CreateMode.PERSISTENT, (c, p, x, n) -> told.that("create", c, n), null);
        a.zk.create("/async", DATA, OPEN, CreateMode.PERSISTENT, (c, p, x, n) -> told.that("create", c, n), null);
        a.zk.create("/async/2", DATA, OPEN, CreateMode.EPHEMERAL,
                (c, p, x, n, s) -> told.that("create2", c, n + " " + s.getDataLength()), null);
        a.zk.exists("/async", false, (c, p, x, s) -> told.that("exists", c, s.getNumChildren()), null);
        a.zk.getData("/async", false, (c, p, x, d, s) -> told.that("data", c, s.getVersion()), null);
        a.zk.getChildren("/async", false, (c, p, x, l) -> told.that("children", c, l), null);
        a.zk.getACL("/async", new Stat(), (c, p, x, l, s) -> told.that("acl", c, l.size()), null);
        a.zk.setData("/async", DATA, 5, (c, p, x, s) -> told.that("set", c, s), null);
        a.zk.multi(List.of(Op.check("/async", 0), Op.delete("/none", -1)),
                (c, p, x, l) -> told.that("multi", c, l.size()), null);
        a.zk.sync("/async", (c, p, x) -> told.that("sync", c, p), null);
        a.zk.delete("/async/2", 0, (c, p, x) -> told.that("delete", c, p), null);
        a.zk.delete("/async/2", 0, (c, p, x) -> told.that("delete", c, p), null);
        a.note("asynchronous", () -> done.await(Session.DEADLINE_SECONDS, TimeUnit.SECONDS));
        seen.forEach(System.out::println);
    }

    /** A frame has 1,048,575 bytes at most, for the server and for this client: 24 around data to set, 88 around read. */
    private void sizes() throws Exception {
        create(a, "/big");
        a.note("set what can be read", () -> a.zk.setData("/big", new byte[1_048_575 - 88], -1));
        a.note("read it", () -> a.zk.getData("/big", false, null));
        a.note("set the largest", () -> a.zk.setData("/big", new byte[1_048_575 - 24], -1));
        a.note("set one byte more", () -> a.zk.setData("/big", new byte[1_048_575 - 23], -1));
        a.expectState("SyncConnected");
        a.note("read what is too large", () -> a.zk.getData("/big", false, null));
        a.expectState("SyncConnected");
        a.note("afterwards", () -> a.zk.setData("/big", null, 2));
    }

    private void ephemerals() throws Exception {
        create(a, "/eph");
        try (Session c = new Session("c", hosts, TIMEOUT_MS)) {
            c.note("ephemeral", () -> c.zk.create("/eph/c", DATA, OPEN, CreateMode.EPHEMERAL));
            c.zk.create("/eph/s-", DATA, OPEN, CreateMode.EPHEMERAL_SEQUENTIAL);
            a.note("another's", () -> a.zk.exists("/eph/c", a.watcher("node")));
            a.zk.getChildren("/eph", a.watcher("parent"));
            b.note("delete another's", () -> deleted(b, "/eph/s-0000000001", -1));
        }
        a.events("session closed", 2);
        a.note("parent", () -> a.zk.exists("/eph", false));
    }

    private void sweeps() throws Exception {
        a.zk.create("/ttl", DATA, OPEN, CreateMode.PERSISTENT_WITH_TTL, null, 100);
        a.note("ttl", () -> a.zk.exists("/ttl", a.watcher("ttl")));
        a.events("ttl over", 1);
        a.zk.create("/box", DATA, OPEN, CreateMode.CONTAINER);
        a.note("container", () -> a.zk.exists("/box", a.watcher("container")));
        a.zk.create("/box/x", DATA, OPEN, CreateMode.EPHEMERAL);
        deleted(a, "/box/x", -1);
        a.events("container empty", 1);
        a.note("root", () -> a.zk.exists("/", false));
    }

    private void reconnects() throws Exception {
        create(b, "/r");
        create(b, "/r/x");
        a.zk.create("/r/mine", DATA, OPEN, CreateMode.EPHEMERAL);
        a.zk.getData("/r", a.watcher("data"), null);
        a.zk.exists("/r/later", a.watcher("exists"));
        a.zk.getChildren("/r/x", a.watcher("children"));
        a.zk.addWatch("/rp", a.watcher("persistent"), AddWatchMode.PERSISTENT);
        a.zk.addWatch("/rr", a.watcher("recursive"), AddWatchMode.PERSISTENT_RECURSIVE);
        try (Intruder intruder = new Intruder(hosts)) {
            long id = a.zk.getSessionId();
            a.note("moved", () -> intruder.attach(id, a.zk.getSessionPasswd(), TIMEOUT_MS, false) == id);
            b.zk.setData("/r", bytes("changed"), -1);
        }
        a.expectState("Disconnected");
        a.expectState("SyncConnected");
        a.note("same session", () -> a.zk.getData("/r/mine", false, null));
        a.note("who", () -> a.zk.whoAmI());
        create(b, "/r/later");
        create(b, "/r/x/y");
        create(b, "/rp");
        create(b, "/rr");
        create(b, "/rr/x");
        a.events("restored watches", 6);
        b.note("ephemeral outlives the connection", () -> b.zk.exists("/r/mine", false));
    }

    private void lostSessions() throws Exception {
        b.zk.exists("/r/mine", b.watcher("mine"));
        try (Intruder intruder = new Intruder(hosts)) {
            intruder.attach(a.zk.getSessionId(), a.zk.getSessionPasswd(), TIMEOUT_MS, true);
        }
        b.events("session ended", 1);
        a.expectState("Expired");
        a.note("after the end", () -> a.zk.exists("/r", false));
        try (Session again = new Session("again", hosts, TIMEOUT_MS, a.zk.getSessionId(), a.zk.getSessionPasswd())) {
            again.expectState("Expired");
            again.note("a session that is over", () -> again.zk.exists("/r", false));
        }
        try (Session stranger = new Session("stranger", hosts, TIMEOUT_MS, 4711, new byte[16])) {
            stranger.expectState("Expired");
            stranger.note("a session that never was", () -> stranger.zk.exists("/r", false));
        }
        try (Session c = new Session("c", hosts, TIMEOUT_MS)) {
            c.zk.addAuthInfo("unheard", bytes("of"));
            c.expectState("AuthFailed");
            c.note("after a failed authentication", () -> c.zk.exists("/r", false));
        }
    }
}
