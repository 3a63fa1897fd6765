import { render } from "preact";
import { Account } from "./account.js";
import { App } from "./app.js";

const account = new Account();
const root = document.getElementById("app");
if (root !== null) render(<App account={account} />, root);
void account.start();
