package curator;

import static curator.Answers.text;
import static curator.Subject.unknown;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

/** The framework's own calls. */
final class Client implements Subject {
    private final CuratorFramework client;
    private final EventLog states = new EventLog();

    Client(CuratorFramework client) {
        this.client = client;
        client.getConnectionStateListenable().addListener((framework, state) -> states.add(state.name()));
    }

    String session() throws Exception {
        return "0x" + Long.toHexString(client.getZookeeperClient().getZooKeeper().getSessionId());
    }

    @Override
    public Object run(Words words) throws Exception {
        return switch (words.next()) {
            case "session" -> session();
            case "states" -> states.await(words);
            case "create" -> client.create().withMode(words.mode()).forPath(words.next(), words.rest());
            case "create-with-parents" ->
                    client.create().creatingParentsIfNeeded().withMode(words.mode())
                            .forPath(words.next(), words.rest());
            case "create-with-containers" ->
                    client.create().creatingParentContainersIfNeeded().withMode(words.mode())
                            .forPath(words.next(), words.rest());
            case "create-or-set" -> client.create().orSetData().forPath(words.next(), words.rest());
            case "create-protected" ->
                    client.create().withProtection().withMode(words.mode()).forPath(words.next(), words.rest());
            case "create-ttl" ->
                    client.create().withTtl(words.number()).withMode(CreateMode.PERSISTENT_WITH_TTL)
                            .forPath(words.next(), words.rest());
            case "get" -> {
                Stat stat = new Stat();
                yield text(client.getData().storingStatIn(stat).forPath(words.next())) + " " + shown(stat);
            }
            case "data" -> client.getData().forPath(words.next());
            case "set" ->
                    shown(client.setData().withVersion(words.number()).forPath(words.next(), words.rest()));
            case "delete" -> ok(client.delete().withVersion(words.number()).forPath(words.next()));
            case "delete-tree" -> ok(client.delete().deletingChildrenIfNeeded().forPath(words.next()));
            case "exists" -> shown(client.checkExists().forPath(words.next()));
            case "children" -> client.getChildren().forPath(words.next()).stream().sorted().toList();
            case "acl" -> client.getACL().forPath(words.next());
            case "set-acl" ->
                    shown(client.setACL().withVersion(words.number()).withACL(words.acl()).forPath(words.next()));
            case "sync" -> ok(client.sync().forPath(words.next()));
            case "multi" -> transaction(words);
            case "tree" -> tree(words.next());
            default -> unknown(words);
        };
    }

    private static String ok(Object ignored) {
        return "ok";
    }

    private String shown(Stat stat) throws Exception {
        if (stat == null) {
            return "none";
        }
        long owner = stat.getEphemeralOwner();
        long mine = client.getZookeeperClient().getZooKeeper().getSessionId();
        String whose = owner == 0 ? "nobody" : owner == mine ? "me" : "another";
        return "{czxid=%d mzxid=%d pzxid=%d version=%d cversion=%d aversion=%d owner=%s length=%d children=%d}"
                .formatted(
                        stat.getCzxid(), stat.getMzxid(), stat.getPzxid(), stat.getVersion(), stat.getCversion(),
                        stat.getAversion(), whose, stat.getDataLength(), stat.getNumChildren());
    }

    /** Operations are parted by "|": create PATH DATA, set PATH DATA, delete PATH, check PATH VERSION. */
    private Object transaction(Words words) throws Exception {
        List<CuratorOp> ops = new ArrayList<>();
        for (String part : words.text().split("\\|")) {
            Words op = new Words(part.strip());
            ops.add(
                    switch (op.next()) {
                        case "create" -> client.transactionOp().create().forPath(op.next(), op.rest());
                        case "set" -> client.transactionOp().setData().forPath(op.next(), op.rest());
                        case "delete" -> client.transactionOp().delete().forPath(op.next());
                        case "check" -> client.transactionOp().check().withVersion(op.number()).forPath(op.next());
                        default -> throw new IllegalArgumentException(part);
                    });
        }
        List<String> results = new ArrayList<>();
        try {
            for (CuratorTransactionResult result : client.transaction().forOperations(ops)) {
                String stat = result.getResultStat() == null ? "" : " " + shown(result.getResultStat());
                results.add(result.getType() + " " + result.getForPath() + " " + result.getResultPath() + stat);
            }
        } catch (KeeperException error) {
            results.add(error.code().name());
            error.getResults().forEach(result -> results.add(result.getType() + ":" + outcome(result)));
        }
        return results;
    }

    private static String outcome(org.apache.zookeeper.OpResult result) {
        return result instanceof org.apache.zookeeper.OpResult.ErrorResult refused
                ? KeeperException.Code.get(refused.getErr()).name()
                : "OK";
    }

    /** Every znode at and below a path: its data, and the Stat without zxids. */
    private Object tree(String path) throws Exception {
        Stat stat = new Stat();
        String data = text(client.getData().storingStatIn(stat).forPath(path));
        List<Object> found = new ArrayList<>();
        found.add(path + "=" + data + " " + shown(stat).replaceAll(".zxid=\\d+ ", ""));
        for (String child : client.getChildren().forPath(path).stream().sorted().toList()) {
            found.addAll((Collection<?>) tree((path.equals("/") ? "" : path) + "/" + child));
        }
        return found;
    }
}
