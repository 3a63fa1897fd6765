/** What this client calls itself. */
export const CLIENT = "chinwag-typescript/0.1.0";
