import { z } from 'zod';
import { DataError } from '../util/errors.js';
import { type JsonlResult, readJsonl } from '../util/jsonl.js';
import { faultDetails, schemaFaults } from '../util/schema-faults.js';

const schema = z.looseObject({
  prompt_id: z.union([z.int().min(0), z.string().min(1)]),
  image_file: z.string().min(1),
  original_prompt: z.string().min(1),
  detailed_prompt: z.string().nullable().optional(),
  think_output: z.string().nullable().optional(),
  width: z.int().min(1).optional(),
  height: z.int().min(1).optional(),
});

/** One line of a generation's `output.jsonl`; further keys (seed, settings) are kept. */
export type GenerationRecord = z.output<typeof schema>;

/** The record of one line. @throws DataError naming the first key that is missing or wrong. */
export function parseGenerationRecord(value: unknown): GenerationRecord {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DataError('ERR_GENERATION_RECORD', 'a generation record is unusable', {
    ...faultDetails(schemaFaults(parsed.error, value)[0]),
  });
}

/** Reads an `output.jsonl`; bad lines are reported in `problems`. @throws FileError */
export function readGenerationRecords(file: string): JsonlResult<GenerationRecord> {
  return readJsonl(file, parseGenerationRecord);
}
