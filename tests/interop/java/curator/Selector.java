package curator;

import static curator.Subject.closed;
import static curator.Subject.unknown;

import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.leader.Participant;

/** Elects itself again and again, and leads until it is told to step down. */
final class Selector implements Subject {
    private final EventLog terms = new EventLog();
    private final Object gate = new Object();
    private final LeaderSelector selector;
    private boolean leading;

    Selector(CuratorFramework client, String path, String id) {
        selector =
                new LeaderSelector(
                        client,
                        path,
                        new LeaderSelectorListenerAdapter() {
                            @Override
                            public void takeLeadership(CuratorFramework framework) throws InterruptedException {
                                lead();
                            }
                        });
        selector.setId(id);
        selector.autoRequeue();
        selector.start();
    }

    private void lead() throws InterruptedException {
        synchronized (gate) {
            leading = true;
            terms.add("led");
            while (leading) {
                gate.wait();
            }
        }
    }

    @Override
    public Object run(Words words) throws Exception {
        return switch (words.next()) {
            case "terms" -> terms.await(words);
            case "leading" -> selector.hasLeadership();
            case "leader" -> selector.getLeader().getId();
            case "participants" -> selector.getParticipants().stream().map(Participant::getId).toList();
            case "yield" -> {
                synchronized (gate) {
                    leading = false;
                    gate.notifyAll();
                }
                yield "ok";
            }
            case "close" -> closed(selector);
            default -> unknown(words);
        };
    }
}
