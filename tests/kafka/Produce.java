import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Sends each line of the standard input, {@code codec TAB topic TAB key TAB value}, with Kafka's own client and its
 * defaults, and prints {@code partition TAB offset} for each: {@code java -cp 'jars/*' Produce.java brokers}.
 */
public class Produce {
    public static void main(String[] arguments) throws Exception {
        Map<String, KafkaProducer<String, String>> producers = new HashMap<>();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] fields = line.split("\t");
            KafkaProducer<String, String> producer =
                    producers.computeIfAbsent(fields[0], codec -> producer(arguments[0], codec));
            sent.add(producer.send(new ProducerRecord<>(fields[1], fields[2], fields[3])));
        }
        producers.values().forEach(KafkaProducer::close);
        for (Future<RecordMetadata> each : sent) {
            System.out.println(each.get().partition() + "\t" + each.get().offset());
        }
    }

    private static KafkaProducer<String, String> producer(String brokers, String codec) {
        Map<String, Object> settings = Map.of("bootstrap.servers", brokers, "compression.type", codec, "linger.ms", 50);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }
}
