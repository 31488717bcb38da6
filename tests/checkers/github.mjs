// node github.mjs parser|service FILE...: what GitHub's own readers say about workflow files, one line a finding.
import fs from 'node:fs'
import {register} from 'node:module'

// The packages import .json files without saying so, which Node refuses: hand those over as modules.
register('data:text/javascript,' + encodeURIComponent(`
  import {readFile} from 'node:fs/promises'
  export async function load(url, context, next) {
    if (!url.endsWith('.json')) return next(url, context)
    return {format: 'module', shortCircuit: true, source: 'export default ' + await readFile(new URL(url), 'utf8')}
  }`))

async function parser(name, content) {
  const {parseWorkflow, convertWorkflowTemplate, NoOperationTraceWriter} = await import('@actions/workflow-parser')
  const {context, value} = parseWorkflow({name, content}, new NoOperationTraceWriter())
  const template = value ? await convertWorkflowTemplate(context, value, undefined, {errorPolicy: 1}) : {}
  const errors = context.errors.getErrors().map(e => `${e.range?.start?.line ?? 1}: ${e.rawMessage}`)
  return errors.concat(errors.length ? [] : (template.errors ?? []).map(e => `1: ${e.Message}`))
}

async function service(name, content) {
  const {validate} = await import('@actions/languageservice')
  const {TextDocument} = await import('vscode-languageserver-textdocument')
  const {FeatureFlags} = await import('@actions/expressions')
  const text = TextDocument.create('file:///.github/workflows/' + encodeURIComponent(name), 'yaml', 1, content)
  const found = await validate(text, {featureFlags: new FeatureFlags({all: true})})
  return found.map(d => `${d.range.start.line + 1}: ${d.message}`)
}

const [tool, ...files] = process.argv.slice(2)
const read = {parser, service}[tool]
for (const file of files) {
  for (const finding of await read(file, fs.readFileSync(file, 'utf8'))) {
    console.log(`${file}:${finding.replaceAll('\n', ' ')}`)
    process.exitCode = 1
  }
}
