// Bundles the libraries and gathers their licences: `npm ci && npm run build`, in this folder. libraries.json records
// what was built from what, so that a test can say whether the bundle is that of these sources.
import { createHash } from "node:crypto";
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const result = await build({
  entryPoints: ["entry.js"], bundle: true, minify: true, format: "iife", target: "es2022", charset: "utf8",
  legalComments: "none", metafile: true, write: false,
});
const code = result.outputFiles[0].text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
writeFileSync("libraries.js", code);

const inputs = Object.keys(result.metafile.inputs).filter((path) => path.includes("node_modules/"));
const folders = new Set(inputs.map((path) => path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)[0]));
const licences = [...folders].sort().map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `Licence: ${license}`;
  return `${name} ${version} (${license})\n${"-".repeat(60)}\n${text}\n`;
});
writeFileSync("LICENSES.txt", `libraries.js has parts of these packages.\n\n${licences.join("\n\n")}`);

const hash = (name) => [name, createHash("sha256").update(readFileSync(name)).digest("hex")];
const recorded = ["build.mjs", "entry.js", "package.json", "package-lock.json", "libraries.js", "LICENSES.txt"];
writeFileSync("libraries.json", `${JSON.stringify(Object.fromEntries(recorded.map(hash)), null, 2)}\n`);
