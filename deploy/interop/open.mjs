// Opens one shipped object with npm's age-encryption and reads its Parquet with DuckDB: two programs that share no code with Octroi.
//
//   node open.mjs IDENTITY_FILE OBJECT_FILE PARQUET_OUT
//
// Prints one line of JSON: the columns, and the rows by event id.
import { readFile, writeFile } from "node:fs/promises";
import { Decrypter } from "age-encryption";
import { DuckDBInstance } from "@duckdb/node-api";

const [identityFile, objectFile, parquetFile] = process.argv.slice(2);

const decrypter = new Decrypter();
for (const line of (await readFile(identityFile, "utf8")).split("\n")) {
  if (line.startsWith("AGE-SECRET-KEY-")) decrypter.addIdentity(line.trim());
}
await writeFile(parquetFile, await decrypter.decrypt(await readFile(objectFile)));

const db = await (await DuckDBInstance.create(":memory:")).connect();
const query = async (sql) => (await db.runAndReadAll(sql)).getRowObjectsJson();
const from = `read_parquet('${parquetFile.replaceAll("'", "''")}')`;
const columns = await query(`DESCRIBE SELECT * FROM ${from}`);
const rows = await query(`SELECT * FROM ${from} ORDER BY event_id`);
console.log(JSON.stringify({ columns: columns.map((c) => [c.column_name, c.column_type]), rows }));
