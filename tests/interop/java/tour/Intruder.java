package tour;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;

/**
 * A second connection to a session, by its id and password: the server ends the first one. Knows the bytes of a
 * ConnectRequest and of closeSession, and no more of the protocol.
 */
final class Intruder implements AutoCloseable {
    private static final int CLOSE_SESSION = -11;
    private static final int DEADLINE_MS = 30_000;

    private final Socket socket;
    private final DataOutputStream out;
    private final DataInputStream in;

    Intruder(String hosts) throws IOException {
        String[] parts = hosts.split(":");
        socket = new Socket(parts[0], Integer.parseInt(parts[1]));
        socket.setSoTimeout(DEADLINE_MS);
        out = new DataOutputStream(socket.getOutputStream());
        in = new DataInputStream(socket.getInputStream());
    }

    /** Takes the session over, and ends it at once where that is asked for; returns the session id that was granted. */
    long attach(long id, byte[] password, int timeoutMs, boolean end) throws IOException {
        out.writeInt(28 + password.length + 1);
        out.writeInt(0);
        out.writeLong(0);
        out.writeInt(timeoutMs);
        out.writeLong(id);
        out.writeInt(password.length);
        out.write(password);
        out.writeBoolean(false);
        if (end) {
            out.writeInt(8);
            out.writeInt(1);
            out.writeInt(CLOSE_SESSION);
        }
        out.flush();
        byte[] answer = new byte[in.readInt()];
        in.readFully(answer);
        if (end) {
            in.readFully(new byte[in.readInt()]);
        }
        return ByteBuffer.wrap(answer).getLong(8);
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}
