//! The syntax of what is searched for: from its text to an expression that matches within a line.

use regex_syntax::ast::{self, Ast, ClassSetItem, Literal as AstLiteral, Span, Visitor};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look,
};

/// How deep groups of a regular expression may be nested.
const MAX_NESTING: u32 = 100;

/// Why something cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is too long.
    #[error("the text has more than {max} bytes")]
    TooLong {
        /// How many bytes it may have.
        max: usize,
    },
    /// The text can match the end of a line only.
    #[error("the text contains a line break")]
    LineBreak,
    /// The text is no regular expression.
    #[error("the regular expression is not valid at character {at}: {problem}")]
    Syntax {
        /// What is wrong.
        problem: String,
        /// The character at which it is, counted from 1.
        at: usize,
    },
    /// The regular expression needs more memory than is allowed.
    #[error("the regular expression is too large")]
    TooLarge,
}

/// Parses a regular expression. Without an upper-case letter in it, case does not count.
pub(super) fn parse(text: &str) -> Result<Hir, PatternError> {
    let tree = ast::parse::ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(text)
        .map_err(|error| syntax_error(text, error.kind(), error.span()))?;
    let has_upper_case = ast::visit(&tree, UpperCase).is_err();
    let expression = TranslatorBuilder::new()
        .utf8(false)
        .multi_line(true)
        .case_insensitive(!has_upper_case)
        .build()
        .translate(text, &tree)
        .map_err(|error| syntax_error(text, error.kind(), error.span()))?;
    within_line(expression)
}

fn syntax_error(text: &str, problem: &impl std::fmt::Display, span: &Span) -> PatternError {
    let before = text.get(..span.start.offset).unwrap_or(text);
    PatternError::Syntax {
        problem: problem.to_string(),
        at: before.chars().count() + 1,
    }
}

/// Fails at the first upper-case letter that is meant literally; the `S` of `\S` is none.
struct UpperCase;

impl UpperCase {
    fn look_at(literal: &AstLiteral) -> Result<(), ()> {
        if literal.c.is_uppercase() {
            Err(())
        } else {
            Ok(())
        }
    }
}

impl Visitor for UpperCase {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), ()> {
        match tree {
            Ast::Literal(literal) => Self::look_at(literal),
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), ()> {
        match item {
            ClassSetItem::Literal(literal) => Self::look_at(literal),
            ClassSetItem::Range(range) => {
                Self::look_at(&range.start)?;
                Self::look_at(&range.end)
            }
            _ => Ok(()),
        }
    }
}

/// The same expression without anything that matches the end of a line. The beginning and the end of a text become those of a line.
fn within_line(expression: Hir) -> Result<Hir, PatternError> {
    let all = |parts: Vec<Hir>| -> Result<Vec<Hir>, PatternError> {
        parts.into_iter().map(within_line).collect()
    };
    Ok(match expression.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => {
            if literal.0.contains(&b'\n') {
                return Err(PatternError::LineBreak);
            }
            Hir::literal(literal.0)
        }
        HirKind::Class(Class::Unicode(mut class)) => {
            class.difference(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(Class::Bytes(mut class)) => {
            class.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
            Hir::class(Class::Bytes(class))
        }
        HirKind::Look(Look::Start) => Hir::look(Look::StartLF),
        HirKind::Look(Look::End) => Hir::look(Look::EndLF),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(mut repetition) => {
            repetition.sub = Box::new(within_line(*repetition.sub)?);
            Hir::repetition(repetition)
        }
        HirKind::Capture(capture) => within_line(*capture.sub)?,
        HirKind::Concat(parts) => Hir::concat(all(parts)?),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)?),
    })
}
