/**
 * System texts of think mode. BAGEL was trained to reason between `<think>` tags before it answers or
 * draws; these say so in words of this package. `system_prompt` replaces them.
 */
export const generationSystemPrompt = [
  'Before the picture is made, plan it: who or what is in it, how many of each, where everything',
  'stands, colours, light and style.',
  'Write the plan inside <think> </think> tags, that is: <think> the plan </think>, then the picture.',
].join(' ');

/** For answers; {@link generationSystemPrompt} is for pictures. */
export const understandingSystemPrompt = [
  'Before you answer, look at the picture and reason about the question step by step.',
  'Write the reasoning inside <think> </think> tags and the answer after it, that is:',
  '<think> the reasoning </think> the answer.',
].join(' ');

/** A reply taken apart at its think tags. */
export interface SplitReply {
  /** What stands between the tags; undefined when the reply never closed them. */
  thought?: string;
  /** What follows the last closing tag, or the whole reply without one. */
  answer: string;
}

/** Separates reasoning from answer. */
export function splitThought(reply: string): SplitReply {
  const close = '</think>';
  const end = reply.lastIndexOf(close);
  if (end < 0) return { answer: reply.trim() };
  const thought = reply.slice(0, end).replace(/^\s*<think>/, '');
  return { thought: thought.trim(), answer: reply.slice(end + close.length).trim() };
}
