//! Advice for the author of a Lua file. Messages are written with examples in Fennel; this rewrites the examples as Lua.
//!
//! Only the notations that messages use are known: calls of `ci`, lists, tables, keywords, and a job's function with the
//! tool `sh`. What is in backticks is the author's own text and stays as it is.

/// Rewrites the examples of a message in Lua.
pub(super) fn in_lua(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut quoted = false;
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        quoted ^= first == '`';
        let may_begin = text
            .chars()
            .next_back()
            .is_none_or(|before| before.is_whitespace() || before == '(');
        let example = (!quoted && may_begin)
            .then(|| ExampleReader { rest }.example())
            .flatten();
        match example {
            Some((lua, after)) => {
                text.push_str(&lua);
                rest = after;
            }
            None => {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    text
}

/// Reads one example.
#[derive(Clone, Copy)]
struct ExampleReader<'a> {
    rest: &'a str,
}

impl<'a> ExampleReader<'a> {
    /// The example that the text begins with, in Lua, and the text after it.
    fn example(mut self) -> Option<(String, &'a str)> {
        let begins = |start: &str| self.rest.starts_with(start);
        if begins("[\"")
            && self
                .rest
                .split_once(']')
                .is_some_and(|(_, after)| after.starts_with(" ="))
        {
            // A key of a table in Lua.
            return None;
        }
        let is_keyword = begins(":") && self.rest[1..].starts_with(char::is_alphanumeric);
        if begins("(ci.") || begins("(fn ") || begins("[") || begins("{:") || is_keyword {
            Some((self.form()?, self.rest))
        } else {
            None
        }
    }

    fn form(&mut self) -> Option<String> {
        match self.rest.chars().next()? {
            '(' => self.call(),
            '[' => Some(format!("{{{}}}", self.forms('[', ']')?.join(", "))),
            '{' => self.table(),
            '"' => {
                let end = self.rest[1..].find('"')? + 2;
                Some(self.take(end).to_owned())
            }
            ':' => {
                let word = self.word();
                Some(format!("\"{}\"", &word[1..]))
            }
            _ => Some(self.word().to_owned()).filter(|word| !word.is_empty()),
        }
    }

    fn call(&mut self) -> Option<String> {
        if self.rest.starts_with("(fn ") {
            return self.function();
        }
        let forms = self.forms('(', ')')?;
        let (head, arguments) = forms.split_first()?;
        let head = if head == "sh" { "t.sh" } else { head };
        Some(format!("{head}({})", arguments.join(", ")))
    }

    /// `(fn [{: sh}] …)`
    fn function(&mut self) -> Option<String> {
        self.take(4);
        let end = self.rest.find(']')? + 1;
        self.take(end);
        let body = self.items(')')?;
        Some(format!("function(t) {} end", body.join(" ")))
    }

    /// `{:key value}`
    fn table(&mut self) -> Option<String> {
        let forms = self.forms('{', '}')?;
        let pairs: Vec<String> = forms
            .chunks(2)
            .map(|pair| match pair {
                [key, value] => {
                    let name = key.trim_matches('"');
                    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
                    let key = if is_name {
                        name.to_owned()
                    } else {
                        format!("[{key}]")
                    };
                    format!("{key} = {value}")
                }
                rest => rest.concat(),
            })
            .collect();
        Some(format!("{{{}}}", pairs.join(", ")))
    }

    fn forms(&mut self, open: char, close: char) -> Option<Vec<String>> {
        self.rest = self.rest.strip_prefix(open)?;
        self.items(close)
    }

    /// The forms up to a closing delimiter.
    fn items(&mut self, close: char) -> Option<Vec<String>> {
        let mut forms = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                return Some(forms);
            }
            forms.push(self.form()?);
        }
    }

    fn word(&mut self) -> &'a str {
        let is_end = |c: char| c.is_whitespace() || "()[]{}\"`,;?".contains(c);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        // A colon or full stop at the end belongs to the sentence.
        let word = self.rest[..end].trim_end_matches([':', '.']);
        self.take(word.len().max(1).min(end))
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_rewritten() {
        for (fennel, lua) in [
            (
                "write it like (ci.job :test [:quire/push] (fn [{: sh}] …))",
                "write it like ci.job(\"test\", {\"quire/push\"}, function(t) … end)",
            ),
            (
                "register one: (ci.job :test [:quire/push] (fn [{: sh}] (sh \"make test\")))",
                "register one: ci.job(\"test\", {\"quire/push\"}, function(t) t.sh(\"make test\") end)",
            ),
            (
                "write it like (ci.service :db {:image \"postgres:18\" :ready-within [\"pg_isready\"]})",
                "write it like ci.service(\"db\", {image = \"postgres:18\", [\"ready-within\"] = {\"pg_isready\"}})",
            ),
            (
                "write it like (ci.resources {:memory \"2g\" :cpus 2})",
                "write it like ci.resources({memory = \"2g\", cpus = 2})",
            ),
            ("did you mean :test?", "did you mean \"test\"?"),
            (
                "`sh` has no option :x: did you mean :env?",
                "`sh` has no option \"x\": did you mean \"env\"?",
            ),
            (
                "its options are :env, :cwd and :stdin",
                "its options are \"env\", \"cwd\" and \"stdin\"",
            ),
            (
                "as in (ci.job … [:quire/cron/a] …), or remove it",
                "as in ci.job(…, {\"quire/cron/a\"}, …), or remove it",
            ),
            (
                "job `:a (ci.x)` waits for `[:b]` (and 3 more)",
                "job `:a (ci.x)` waits for `[:b]` (and 3 more)",
            ),
            ("it took 1:30 (ci.job", "it took 1:30 (ci.job"),
            (
                "such as [\"cargo\" \"test\"], not a table",
                "such as {\"cargo\", \"test\"}, not a table",
            ),
        ] {
            assert_eq!(in_lua(fennel), lua);
            assert_eq!(in_lua(lua), lua, "again");
        }
    }
}
