import com.fasterxml.jackson.databind.ObjectMapper;
import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import java.io.File;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.Conversions;
import org.apache.avro.LogicalTypes;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints every event of the given topics, from beginning to end, as one JSON object a line.
 *
 * <p>Arguments: the brokers; the address of the schema registry's own API or, for events in single-object encoding, a
 * schema file; and the topics. It uses Apache Kafka's client and Apicurio's Avro deserializer.
 */
public final class PayrollSubscriber {
    private static final Conversions.DecimalConversion DECIMAL = new Conversions.DecimalConversion();

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", arguments[0],
                "isolation.level", "read_committed");
        ObjectMapper json = new ObjectMapper();
        try (KafkaConsumer<String, GenericRecord> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), deserializer(arguments[1]))) {
            List<TopicPartition> partitions = Arrays.stream(arguments)
                    .skip(2)
                    .flatMap(topic -> consumer.partitionsFor(topic).stream())
                    .map(each -> new TopicPartition(each.topic(), each.partition()))
                    .toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, GenericRecord> record : consumer.poll(Duration.ofMillis(200))) {
                    System.out.println(json.writeValueAsString(describe(record)));
                }
            }
        }
    }

    /**
     * Apicurio's deserializer for Confluent's wire format, or Avro's own decoder for single-object encoding.
     *
     * <p>The ids of Apicurio's Confluent API are its content ids; global ids look alike until something is deleted.
     */
    private static Deserializer<GenericRecord> deserializer(String schemas) throws IOException {
        if (schemas.endsWith(".avsc")) {
            BinaryMessageDecoder<GenericRecord> decoder =
                    new BinaryMessageDecoder<>(GenericData.get(), new Schema.Parser().parse(new File(schemas)));
            return (topic, bytes) -> {
                try {
                    return decoder.decode(bytes);
                } catch (IOException error) {
                    throw new SerializationException(error);
                }
            };
        }
        Deserializer<GenericRecord> deserializer = new AvroKafkaDeserializer<>();
        deserializer.configure(
                Map.of(
                        "apicurio.registry.url", schemas,
                        "apicurio.registry.headers.enabled", "false",
                        "apicurio.registry.id-handler", "io.apicurio.registry.serde.Default4ByteIdHandler",
                        "apicurio.registry.use-id", "contentId"),
                false);
        return deserializer;
    }

    private static Map<String, Object> describe(ConsumerRecord<String, GenericRecord> record) {
        Map<String, String> headers = new LinkedHashMap<>();
        for (Header header : record.headers()) {
            headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
        }
        Map<String, Object> described = new LinkedHashMap<>();
        described.put("topic", record.topic());
        described.put("key", record.key());
        described.put("partition", record.partition());
        described.put("offset", record.offset());
        described.put("headers", headers);
        described.put("event", plain(record.value(), record.value().getSchema()));
        return described;
    }

    /** An Avro value as JSON: decimals as text, dates and instants in ISO 8601. */
    private static Object plain(Object value, Schema schema) {
        if (value == null) {
            return null;
        }
        return switch (schema.getType()) {
            case UNION -> plain(value, schema.getTypes().get(1));
            case RECORD -> {
                Map<String, Object> fields = new LinkedHashMap<>();
                for (Schema.Field field : schema.getFields()) {
                    fields.put(field.name(), plain(((GenericRecord) value).get(field.pos()), field.schema()));
                }
                yield fields;
            }
            case ARRAY -> {
                List<Object> elements = new ArrayList<>();
                for (Object element : (Iterable<?>) value) {
                    elements.add(plain(element, schema.getElementType()));
                }
                yield elements;
            }
            case MAP -> {
                Map<String, Object> entries = new LinkedHashMap<>();
                ((Map<?, ?>) value).forEach((name, each) -> entries.put(name.toString(), plain(each, schema.getValueType())));
                yield entries;
            }
            case BYTES -> decimal((ByteBuffer) value, schema).toPlainString();
            case INT -> schema.getLogicalType() instanceof LogicalTypes.Date
                    ? LocalDate.ofEpochDay((Integer) value).toString()
                    : value;
            case LONG -> schema.getLogicalType() instanceof LogicalTypes.TimestampMicros
                    ? Instant.EPOCH.plus((Long) value, ChronoUnit.MICROS).toString()
                    : value;
            default -> value.toString();
        };
    }

    private static BigDecimal decimal(ByteBuffer bytes, Schema schema) {
        return DECIMAL.fromBytes(bytes, schema, schema.getLogicalType());
    }

    private PayrollSubscriber() {}
}
