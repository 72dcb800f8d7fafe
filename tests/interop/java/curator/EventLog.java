package curator;

import static curator.Subject.closed;
import static curator.Subject.unknown;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** What has happened, in order; a command may wait until it is so much. */
final class EventLog {
    private final List<String> entries = new ArrayList<>();

    synchronized void add(String entry) {
        entries.add(entry);
        notifyAll();
    }

    /** COUNT MS: everything, once there are so many entries or the time is over; the log is empty then. */
    synchronized List<String> await(Words words) throws InterruptedException {
        int count = words.number();
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(words.number());
        while (entries.size() < count && System.nanoTime() < end) {
            TimeUnit.NANOSECONDS.timedWait(this, end - System.nanoTime());
        }
        List<String> taken = List.copyOf(entries);
        entries.clear();
        return taken;
    }

    /** The commands of whatever fills this log: "events", "close", and one of its own. */
    Subject with(Subject own, AutoCloseable subject) {
        return words ->
                switch (words.next()) {
                    case "events" -> await(words);
                    case "put", "nodes" -> own.run(words);
                    case "close" -> closed(subject);
                    default -> unknown(words);
                };
    }
}
