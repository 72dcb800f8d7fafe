package curator;

import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** How values are spelled in an answer. Refuses to know what they mean. */
final class Answers {
    private Answers() {}

    static String text(Object value) {
        if (value == null) {
            return "null";
        }
        if (value instanceof byte[] data) {
            return new String(data, StandardCharsets.UTF_8);
        }
        if (value instanceof Map<?, ?> map) {
            Map<String, String> sorted = new TreeMap<>();
            map.forEach((key, item) -> sorted.put(text(key), text(item)));
            return sorted.toString();
        }
        if (value instanceof Collection<?> items) {
            return items.stream().map(Answers::text).collect(Collectors.joining(", ", "[", "]"));
        }
        return value.toString();
    }
}
