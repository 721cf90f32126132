import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group. It consumes a topic and commits, until it receives SIGTERM. */
class GroupMember {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("group.id", args[1]);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.StickyAssignor");
        KafkaConsumer<byte[], byte[]> c = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            c.wakeup();
            try {
                main.join();
            } catch (InterruptedException e) {
            }
        }));
        try {
            c.subscribe(List.of(args[2]));
            while (true) {
                if (!c.poll(Duration.ofMillis(100)).isEmpty()) {
                    c.commitSync();
                }
            }
        } catch (org.apache.kafka.common.errors.WakeupException e) {
            c.close();
        }
    }
}
