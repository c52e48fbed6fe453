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
 * A subscriber that knows nothing of the stream's code: Apache Kafka's client, Apicurio's Avro deserializer, a registry.
 *
 * <p>Arguments: brokers; where schemas are had, the address of the registry's own API, or a schema file for events in
 * single-object encoding; and topics. It reads each topic from beginning to end and prints one JSON object per event.
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
                    System.out.println(json.writeValueAsString(told(record)));
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

    private static Map<String, Object> told(ConsumerRecord<String, GenericRecord> record) {
        Map<String, String> headers = new LinkedHashMap<>();
        for (Header header : record.headers()) {
            headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
        }
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("topic", record.topic());
        told.put("key", record.key());
        told.put("partition", record.partition());
        told.put("offset", record.offset());
        told.put("headers", headers);
        told.put("event", plain(record.value(), record.value().getSchema()));
        return told;
    }

    /** A value as JSON can hold it: decimals as text, dates and instants as ISO 8601 has them. */
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
