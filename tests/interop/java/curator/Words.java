package curator;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;

/** A line's words, taken one after another. Decides how modes, ACLs and services are written in a command. */
final class Words {
    final String line;
    private String left;

    Words(String line) {
        this.line = line;
        left = line;
    }

    String next() {
        if (left.isEmpty()) {
            throw new IllegalArgumentException("a word is missing: " + line);
        }
        String[] parts = left.split(" ", 2);
        left = parts.length == 1 ? "" : parts[1];
        return parts[0];
    }

    boolean is(String word) {
        if (left.equals(word) || left.startsWith(word + " ")) {
            next();
            return true;
        }
        return false;
    }

    int number() {
        return Integer.parseInt(next());
    }

    CreateMode mode() {
        return CreateMode.valueOf(next());
    }

    /** What is left of the line. */
    String text() {
        String rest = left;
        left = "";
        return rest;
    }

    byte[] rest() {
        return text().getBytes(StandardCharsets.UTF_8);
    }

    /** PERMS:SCHEME:ID. */
    List<ACL> acl() {
        String[] parts = next().split(":", 3);
        return List.of(new ACL(Integer.parseInt(parts[0]), new Id(parts[1], parts[2])));
    }

    /** NAME ID ADDRESS PORT PAYLOAD. */
    ServiceInstance<Object> service() throws Exception {
        return ServiceInstance.<Object>builder()
                .name(next())
                .id(next())
                .address(next())
                .port(number())
                .payload(text())
                .build();
    }
}
