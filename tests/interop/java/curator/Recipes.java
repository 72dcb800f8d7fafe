package curator;

import static curator.Answers.text;
import static curator.Subject.closed;
import static curator.Subject.unknown;

import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Collection;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicNumber;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.cache.TreeCacheEvent;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;

/** Curator's recipes as subjects. Decides which of a recipe's calls can be made; {@code curator.py} lists them. */
final class Recipes {
    private final CuratorFramework client;

    Recipes(CuratorFramework client) {
        this.client = client;
    }

    Subject made(Words words) throws Exception {
        return switch (words.next()) {
            case "mutex" -> lock(new InterProcessMutex(client, words.next()));
            case "semaphore-mutex" -> lock(new InterProcessSemaphoreMutex(client, words.next()));
            case "multi-lock" -> lock(new InterProcessMultiLock(client, Arrays.asList(words.text().split(" "))));
            case "read-write-lock" -> readWriteLock(new InterProcessReadWriteLock(client, words.next()));
            case "semaphore" -> semaphore(new InterProcessSemaphoreV2(client, words.next(), words.number()));
            case "latch" -> latch(new LeaderLatch(client, words.next(), words.next()));
            case "selector" -> new Selector(client, words.next(), words.next());
            case "count" -> count(new SharedCount(client, words.next(), words.number()));
            case "value" -> value(new SharedValue(client, words.next(), words.rest()));
            case "long" -> number(new DistributedAtomicLong(client, words.next(), new RetryNTimes(10, 5)));
            case "integer" -> number(new DistributedAtomicInteger(client, words.next(), new RetryNTimes(10, 5)));
            case "barrier" -> barrier(new DistributedBarrier(client, words.next()));
            case "double-barrier" ->
                    doubleBarrier(new DistributedDoubleBarrier(client, words.next(), words.number()));
            case "member" -> member(new GroupMember(client, words.next(), words.next(), words.rest()));
            case "node" -> {
                CreateMode mode = words.mode();
                yield node(new PersistentNode(client, mode, false, words.next(), words.rest()));
            }
            case "ttl-node" -> ttlNode(new PersistentTtlNode(client, words.next(), words.number(), words.rest()));
            case "simple-queue" -> simpleQueue(new SimpleDistributedQueue(client, words.next()));
            case "queue" -> queue(words);
            case "priority-queue" -> priorityQueue(words);
            case "delay-queue" -> delayQueue(words);
            case "discovery" -> discovery(words.next());
            case "cache" -> cache(CuratorCache.build(client, words.next()));
            case "tree-cache" -> treeCache(new TreeCache(client, words.next()));
            case "watcher" -> watcher(new PersistentWatcher(client, words.next(), words.is("recursive")));
            default -> throw new IllegalArgumentException("no such recipe: " + words.line);
        };
    }

    private static Subject lock(InterProcessLock lock) {
        return words ->
                switch (words.next()) {
                    case "acquire" -> lock.acquire(words.number(), TimeUnit.MILLISECONDS);
                    case "release" -> {
                        lock.release();
                        yield "ok";
                    }
                    case "held" -> lock.isAcquiredInThisProcess();
                    case "participants" -> ((InterProcessMutex) lock).getParticipantNodes();
                    default -> unknown(words);
                };
    }

    private static Subject readWriteLock(InterProcessReadWriteLock lock) {
        Subject reading = lock(lock.readLock());
        Subject writing = lock(lock.writeLock());
        return words ->
                switch (words.next()) {
                    case "read" -> reading.run(words);
                    case "write" -> writing.run(words);
                    default -> unknown(words);
                };
    }

    private static Subject semaphore(InterProcessSemaphoreV2 semaphore) {
        Deque<Lease> leases = new ArrayDeque<>();
        return words ->
                switch (words.next()) {
                    case "acquire" -> {
                        Lease lease = semaphore.acquire(words.number(), TimeUnit.MILLISECONDS);
                        if (lease != null) {
                            leases.push(lease);
                        }
                        yield lease != null;
                    }
                    case "acquire-many" -> {
                        int count = words.number();
                        Collection<Lease> several = semaphore.acquire(count, words.number(), TimeUnit.MILLISECONDS);
                        if (several != null) {
                            several.forEach(leases::push);
                        }
                        yield several != null;
                    }
                    case "release" -> {
                        leases.pop().close();
                        yield "ok";
                    }
                    case "participants" -> semaphore.getParticipantNodes();
                    default -> unknown(words);
                };
    }

    private static Subject latch(LeaderLatch latch) throws Exception {
        latch.start();
        return words ->
                switch (words.next()) {
                    case "await" -> latch.await(words.number(), TimeUnit.MILLISECONDS);
                    case "leading" -> latch.hasLeadership();
                    case "leader" -> latch.getLeader().getId();
                    case "participants" -> latch.getParticipants().stream().map(Participant::getId).toList();
                    case "close" -> closed(latch);
                    default -> unknown(words);
                };
    }

    private static Subject count(SharedCount count) throws Exception {
        count.start();
        return words ->
                switch (words.next()) {
                    case "get" -> count.getCount();
                    case "set" -> {
                        count.setCount(words.number());
                        yield "ok";
                    }
                    case "try" -> count.trySetCount(count.getVersionedValue(), words.number());
                    case "close" -> closed(count);
                    default -> unknown(words);
                };
    }

    private static Subject value(SharedValue value) throws Exception {
        value.start();
        return words ->
                switch (words.next()) {
                    case "get" -> value.getValue();
                    case "set" -> {
                        value.setValue(words.rest());
                        yield "ok";
                    }
                    case "try" -> value.trySetValue(value.getVersionedValue(), words.rest());
                    case "close" -> closed(value);
                    default -> unknown(words);
                };
    }

    private static Subject number(DistributedAtomicNumber<? extends Number> number) {
        return words -> {
            AtomicValue<? extends Number> outcome =
                    switch (words.next()) {
                        case "get" -> number.get();
                        case "increment" -> number.increment();
                        case "decrement" -> number.decrement();
                        case "add" ->
                                number instanceof DistributedAtomicLong wide
                                        ? wide.add((long) words.number())
                                        : ((DistributedAtomicInteger) number).add(words.number());
                        default -> throw new IllegalArgumentException(words.line);
                    };
            return outcome.succeeded() ? outcome.postValue() : "failed";
        };
    }

    private static Subject barrier(DistributedBarrier barrier) {
        return words ->
                switch (words.next()) {
                    case "set" -> {
                        barrier.setBarrier();
                        yield "ok";
                    }
                    case "remove" -> {
                        barrier.removeBarrier();
                        yield "ok";
                    }
                    case "wait" -> barrier.waitOnBarrier(words.number(), TimeUnit.MILLISECONDS);
                    default -> unknown(words);
                };
    }

    private static Subject doubleBarrier(DistributedDoubleBarrier barrier) {
        return words ->
                switch (words.next()) {
                    case "enter" -> barrier.enter(words.number(), TimeUnit.MILLISECONDS);
                    case "leave" -> barrier.leave(words.number(), TimeUnit.MILLISECONDS);
                    default -> unknown(words);
                };
    }

    private static Subject member(GroupMember member) {
        member.start();
        return words ->
                switch (words.next()) {
                    case "members" -> member.getCurrentMembers();
                    case "set" -> {
                        setOnceMade(member, words.rest());
                        yield "ok";
                    }
                    case "close" -> closed(member);
                    default -> unknown(words);
                };
    }

    /**
     * Curator refuses new data between the server's making of the znode, which others see at once, and the run of its
     * own callback, and a GroupMember has no way to wait for that.
     */
    private static void setOnceMade(GroupMember member, byte[] data) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
        while (true) {
            try {
                member.setThisData(data);
                return;
            } catch (IllegalStateException notYet) {
                if (System.nanoTime() > end) throw notYet;
                Thread.sleep(5);
            }
        }
    }

    private static Subject node(PersistentNode node) {
        node.start();
        return words ->
                switch (words.next()) {
                    case "await" -> node.waitForInitialCreate(words.number(), TimeUnit.MILLISECONDS);
                    case "path" -> node.getActualPath();
                    case "set" -> {
                        node.setData(words.rest());
                        yield "ok";
                    }
                    case "close" -> closed(node);
                    default -> unknown(words);
                };
    }

    private static Subject ttlNode(PersistentTtlNode node) {
        node.start();
        return words ->
                switch (words.next()) {
                    case "await" -> node.waitForInitialCreate(words.number(), TimeUnit.MILLISECONDS);
                    case "close" -> closed(node);
                    default -> unknown(words);
                };
    }

    private static Subject simpleQueue(SimpleDistributedQueue queue) {
        return words ->
                switch (words.next()) {
                    case "put" -> queue.offer(words.rest());
                    case "poll" -> queue.poll(words.number(), TimeUnit.MILLISECONDS);
                    case "peek" -> queue.peek();
                    default -> unknown(words);
                };
    }

    /** PATH [put-only] [lock PATH]: without a consumer nothing is taken from the queue. */
    private QueueBuilder<String> builder(Words words, EventLog taken) {
        QueueConsumer<String> consumer =
                new QueueConsumer<>() {
                    @Override
                    public void consumeMessage(String message) {
                        taken.add(message);
                    }

                    @Override
                    public void stateChanged(CuratorFramework framework, ConnectionState state) {}
                };
        QueueSerializer<String> serializer =
                new QueueSerializer<>() {
                    @Override
                    public byte[] serialize(String item) {
                        return item.getBytes(StandardCharsets.UTF_8);
                    }

                    @Override
                    public String deserialize(byte[] bytes) {
                        return new String(bytes, StandardCharsets.UTF_8);
                    }
                };
        String path = words.next();
        QueueBuilder<String> builder =
                QueueBuilder.builder(client, words.is("put-only") ? null : consumer, serializer, path)
                        .putInBackground(false);
        return words.is("lock") ? builder.lockPath(words.next()) : builder;
    }

    private Subject queue(Words words) throws Exception {
        EventLog taken = new EventLog();
        DistributedQueue<String> queue = builder(words, taken).buildQueue();
        queue.start();
        return taken.with(
                item -> {
                    queue.put(item.text());
                    return "ok";
                },
                queue);
    }

    private Subject priorityQueue(Words words) throws Exception {
        EventLog taken = new EventLog();
        DistributedPriorityQueue<String> queue = builder(words, taken).buildPriorityQueue(0);
        queue.start();
        return taken.with(
                item -> {
                    int priority = item.number();
                    queue.put(item.text(), priority);
                    return "ok";
                },
                queue);
    }

    private Subject delayQueue(Words words) throws Exception {
        EventLog taken = new EventLog();
        DistributedDelayQueue<String> queue = builder(words, taken).buildDelayQueue();
        queue.start();
        return taken.with(
                item -> {
                    long until = System.currentTimeMillis() + item.number();
                    queue.put(item.text(), until);
                    return "ok";
                },
                queue);
    }

    private Subject discovery(String base) throws Exception {
        ServiceDiscovery<Object> discovery =
                ServiceDiscoveryBuilder.builder(Object.class).client(client).basePath(base).build();
        discovery.start();
        Map<String, ServiceCache<Object>> caches = new HashMap<>();
        return words ->
                switch (words.next()) {
                    case "register" -> {
                        discovery.registerService(words.service());
                        yield "ok";
                    }
                    case "update" -> {
                        discovery.updateService(words.service());
                        yield "ok";
                    }
                    case "unregister" -> {
                        discovery.unregisterService(words.service());
                        yield "ok";
                    }
                    case "instances" -> shown(discovery.queryForInstances(words.next()));
                    case "names" -> discovery.queryForNames().stream().sorted().toList();
                    case "watch" -> {
                        String name = words.next();
                        ServiceCache<Object> cache = discovery.serviceCacheBuilder().name(name).build();
                        cache.start();
                        caches.put(name, cache);
                        yield "ok";
                    }
                    case "watched" -> shown(caches.get(words.next()).getInstances());
                    case "close" -> closed(discovery);
                    default -> unknown(words);
                };
    }

    private static Object shown(Collection<ServiceInstance<Object>> instances) {
        return instances.stream()
                .map(
                        one ->
                                "%s@%s:%d=%s%s".formatted(
                                        one.getId(), one.getAddress(), one.getPort(), one.getPayload(),
                                        one.isEnabled() ? "" : " disabled"))
                .sorted()
                .toList();
    }

    private static Subject cache(CuratorCache cache) {
        EventLog events = new EventLog();
        CuratorCacheListener listener =
                CuratorCacheListener.builder()
                        .forCreates(node -> events.add("created " + shown(node)))
                        .forChanges((before, after) -> events.add("changed " + shown(before) + " " + shown(after)))
                        .forDeletes(node -> events.add("deleted " + shown(node)))
                        .forInitialized(() -> events.add("initialized"))
                        .build();
        cache.listenable().addListener(listener);
        cache.start();
        return events.with(
                words -> cache.stream().map(Recipes::shown).sorted().toList(), cache);
    }

    private static Subject treeCache(TreeCache cache) throws Exception {
        EventLog events = new EventLog();
        cache.getListenable()
                .addListener((client, event) -> events.add(event.getType().name().toLowerCase() + shown(event)));
        cache.start();
        return events.with(
                words -> {
                    Map<String, ChildData> children = cache.getCurrentChildren(words.next());
                    return children == null
                            ? null
                            : children.values().stream().map(Recipes::shown).sorted().toList();
                },
                cache);
    }

    private static String shown(TreeCacheEvent event) {
        return event.getData() == null ? "" : " " + shown(event.getData());
    }

    private static String shown(ChildData node) {
        return node.getPath() + "=" + text(node.getData()) + "/" + node.getStat().getVersion();
    }

    private static Subject watcher(PersistentWatcher watcher) {
        EventLog events = new EventLog();
        watcher.getListenable().addListener(event -> events.add(shown(event)));
        watcher.start();
        return events.with(Subject::unknown, watcher);
    }

    private static String shown(WatchedEvent event) {
        return event.getPath() == null ? event.getState().name() : event.getType() + " " + event.getPath();
    }
}
