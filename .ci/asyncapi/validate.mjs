// Paths of AsyncAPI documents in; errors and warnings of the official parser out, and exit code 1 if there is any.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { AvroSchemaParser } from "@asyncapi/avro-schema-parser";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning"]; // what follows are remarks, as that a newer AsyncAPI exists

// Of AsyncAPI 3 documents the parser translates Avro schemas without asking whether they are any.
const avro = AvroSchemaParser();
const checkedAvro = {
  ...avro,
  async parse(input) {
    const [fault] = await avro.validate(input);
    if (fault) throw new Error(`no Avro schema: ${fault.message}`);
    return avro.parse(input);
  },
};

let faults = 0;
for (const file of process.argv.slice(2)) {
  const parser = new Parser();
  parser.registerSchemaParser(checkedAvro);
  const { document, diagnostics } = await parser.parse(await readFile(file, "utf8"), { source: path.resolve(file) });
  const reported = diagnostics.filter(({ severity }) => severity < SEVERITIES.length);
  for (const { severity, range, path: place, code, message } of reported) {
    console.error(`${file}:${range.start.line + 1}: ${SEVERITIES[severity]} ${code} at ${place.join(".")}: ${message}`);
  }
  faults += reported.length;
  if (document === undefined && reported.length === 0) {
    console.error(`${file}: not an AsyncAPI document`);
    faults += 1;
  } else if (reported.length === 0) {
    const counts = `${document.channels().length} channels, ${document.operations().length} operations`;
    console.log(`${file}: AsyncAPI ${document.version()}, ${counts}, valid`);
  }
}
process.exit(faults === 0 && process.argv.length > 2 ? 0 : 1);
