import { useState } from "preact/hooks";
import type { Account } from "./account.js";

export function SignIn({ account }: { account: Account }) {
  const [isNew, setNew] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setProblem("");
    try {
      await account.signIn(String(data.get("name")).trim(), String(data.get("password")), isNew);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  }

  return (
    <main class="sign-in">
      <form onSubmit={(event) => void submit(event)}>
        <h1>chinwag</h1>
        {account.reason.value !== "" && <p role="alert">You were signed out: {account.reason}</p>}
        <label>
          Name
          <input name="name" autocomplete="username" required maxLength={32} autoFocus spellcheck={false} />
        </label>
        <label>
          Password
          <input name="password" type="password" required minLength={8} autocomplete={isNew ? "new-password" : "current-password"} />
        </label>
        {problem !== "" && <p class="problem" role="alert">{problem}</p>}
        <button class="primary" disabled={busy}>{busy ? "One moment…" : isNew ? "Sign up" : "Log in"}</button>
        <button type="button" class="quiet" onClick={() => { setNew(!isNew); setProblem(""); }}>
          {isNew ? "I have an account" : "I am new here"}
        </button>
      </form>
    </main>
  );
}
