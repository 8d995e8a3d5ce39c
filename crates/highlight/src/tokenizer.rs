//! Reads lines one after the other by a grammar.

use syntect::parsing::{BasicScopeStackOp, ParseState, ScopeStack};

use super::code_token::CodeToken;
use super::grammars::Grammar;
use super::scope_classes::{ScopeClasses, TokenClass};

/// Where a text is after some of its lines.
pub(crate) struct Tokenizer {
    state: ParseState,
    scopes: ScopeStack,
    /// The class at each depth of `scopes`.
    stack: Vec<Option<TokenClass>>,
    classes: ScopeClasses,
    text: String,
}

/// The grammar cannot read a line.
pub(crate) struct GrammarFault;

impl Tokenizer {
    pub(crate) fn new(grammar: Grammar) -> Option<Self> {
        Some(Self {
            state: ParseState::new(grammar.syntax()?),
            scopes: ScopeStack::new(),
            stack: Vec::new(),
            classes: ScopeClasses::default(),
            text: String::new(),
        })
    }

    /// Appends the tokens of the next line, which has no end of line.
    pub(crate) fn line(
        &mut self,
        line: &[u8],
        tokens: &mut Vec<CodeToken>,
    ) -> Result<(), GrammarFault> {
        self.text.clear();
        self.text.push_str(&String::from_utf8_lossy(line));
        let end = self.text.len();
        self.text.push('\n');
        let changes = self.state.parse_line(&self.text, Grammar::set());
        let mut at = 0;
        let begin = tokens.len();
        for (place, change) in changes.map_err(|_| GrammarFault)? {
            let place = place.min(end);
            self.push(at..place, begin, tokens);
            at = at.max(place);
            let (stack, classes) = (&mut self.stack, &mut self.classes);
            let applied = self
                .scopes
                .apply_with_hook(&change, |basic, _| match basic {
                    BasicScopeStackOp::Push(scope) => {
                        let around = stack.last().copied().flatten();
                        stack.push(classes.of(scope, around));
                    }
                    BasicScopeStackOp::Pop => {
                        stack.pop();
                    }
                });
            applied.map_err(|_| GrammarFault)?;
        }
        self.push(at..end, begin, tokens);
        Ok(())
    }

    /// Adds a part of the line to the tokens since `begin`.
    fn push(&self, part: std::ops::Range<usize>, begin: usize, tokens: &mut Vec<CodeToken>) {
        let Some(class) = self.stack.last().copied().flatten() else {
            return;
        };
        let (Ok(start), Ok(end)) = (u32::try_from(part.start), u32::try_from(part.end)) else {
            return;
        };
        if start >= end {
            return;
        }
        match tokens[begin..].last_mut() {
            Some(last) if last.class == class && last.end == start => last.end = end,
            _ => tokens.push(CodeToken { start, end, class }),
        }
    }
}
