package curator;

/** Answers commands; their first word is still to be taken. */
interface Subject {
    Object run(Words words) throws Exception;

    static Object unknown(Words words) {
        throw new IllegalArgumentException("no such command: " + words.line);
    }

    static Object closed(AutoCloseable subject) throws Exception {
        subject.close();
        return "ok";
    }
}
