package curator;

import static curator.Answers.text;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.KeeperException;

/**
 * A Curator process that is led by lines of text, for tests of other clients and of servers.
 *
 * <p>Usage: curator.Peer HOSTS SESSION_TIMEOUT_MS. Decides how a recipe's answers are spelled; the commands are listed in
 * {@code curator.py}, which leads it. One command a line on standard input, one answer a line on standard output. Every
 * subject has a thread of its own, so that commands to several overlap and locks that belong to a thread behave.
 */
public final class Peer {
    private static final int CONNECT_MS = 15_000;

    private final Map<String, Subject> subjects = new ConcurrentHashMap<>();
    private final Map<String, ExecutorService> threads = new HashMap<>();
    private final CuratorFramework framework;
    private final Client client;
    private final Recipes recipes;

    private Peer(String hosts, int sessionTimeout) {
        framework =
                CuratorFrameworkFactory.newClient(
                        hosts, sessionTimeout, CONNECT_MS, new ExponentialBackoffRetry(50, 8));
        client = new Client(framework);
        recipes = new Recipes(framework);
    }

    public static void main(String[] arguments) throws Exception {
        Peer peer = new Peer(arguments[0], Integer.parseInt(arguments[1]));
        peer.framework.start();
        if (!peer.framework.blockUntilConnected(CONNECT_MS, TimeUnit.MILLISECONDS)) {
            throw new IOException("no server answered");
        }
        say("-", peer.client.session());
        peer.serve();
        peer.framework.close();
        System.exit(0);
    }

    private void serve() throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null && !line.equals("quit"); line = in.readLine()) {
            Words words = new Words(line);
            String name = words.next();
            threads.computeIfAbsent(name, Peer::thread).submit(() -> answer(name, words));
        }
    }

    private static ExecutorService thread(String name) {
        return Executors.newSingleThreadExecutor(
                work -> {
                    Thread thread = new Thread(work, name);
                    thread.setDaemon(true);
                    return thread;
                });
    }

    private void answer(String name, Words words) {
        try {
            say(name, text(run(name, words)));
        } catch (KeeperException error) {
            say(name, "ERROR " + error.code());
        } catch (Throwable error) {
            say(name, "ERROR " + error);
        }
    }

    private static synchronized void say(String name, String answer) {
        byte[] line = (name + " " + answer.replace("\n", "\\n") + "\n").getBytes(StandardCharsets.UTF_8);
        System.out.write(line, 0, line.length);
        System.out.flush();
    }

    private Object run(String name, Words words) throws Exception {
        if (name.equals("-")) {
            return client.run(words);
        }
        if (words.is("new")) {
            subjects.put(name, recipes.made(words));
            return "ok";
        }
        return subjects.getOrDefault(name, Subject::unknown).run(words);
    }
}
