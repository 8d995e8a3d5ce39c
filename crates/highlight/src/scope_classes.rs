//! Which class a scope of a grammar has. Grammars name hundreds of scopes; readers tell eight colours apart.

use std::collections::HashMap;
use std::sync::LazyLock;

use syntect::parsing::Scope;

/// What a part of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    Comment,
    String,
    Keyword,
    Function,
    Type,
    Number,
    Attribute,
    Invalid,
}

/// The class of scopes that begin so. The longest beginning counts; `None` means that it looks like plain text, whatever is around it.
const CLASSES: [(&str, Option<TokenClass>); 54] = {
    use TokenClass::{Attribute, Comment, Function, Invalid, Keyword, Number, String, Type};
    [
        ("comment", Some(Comment)),
        ("punctuation.definition.comment", Some(Comment)),
        ("markup.quote", Some(Comment)),
        ("string", Some(String)),
        ("punctuation.definition.string", Some(String)),
        ("constant.character", Some(String)),
        ("constant.other.symbol", Some(String)),
        ("markup.raw", Some(String)),
        ("markup.inserted", Some(String)),
        ("markup.underline.link", Some(String)),
        ("keyword", Some(Keyword)),
        ("keyword.operator", None),
        ("keyword.operator.word", Some(Keyword)),
        ("keyword.operator.logical.python", Some(Keyword)),
        ("storage", Some(Keyword)),
        ("entity.name.tag", Some(Keyword)),
        ("punctuation.definition.keyword", Some(Keyword)),
        ("variable.language", Some(Keyword)),
        ("support.constant.prelude", Some(Keyword)),
        ("entity.name.function", Some(Function)),
        ("entity.name.macro", Some(Function)),
        ("entity.name.section", Some(Function)),
        ("markup.heading", Some(Function)),
        ("meta.diff.range", Some(Function)),
        ("support.function", Some(Function)),
        ("support.macro", Some(Function)),
        ("variable.function", Some(Function)),
        ("entity.name.type", Some(Type)),
        ("entity.name.class", Some(Type)),
        ("entity.name.struct", Some(Type)),
        ("entity.name.enum", Some(Type)),
        ("entity.name.union", Some(Type)),
        ("entity.name.trait", Some(Type)),
        ("entity.name.impl", Some(Type)),
        ("entity.name.interface", Some(Type)),
        ("entity.name.namespace", Some(Type)),
        ("entity.name.module", Some(Type)),
        ("entity.other.inherited-class", Some(Type)),
        ("support.type", Some(Type)),
        ("support.class", Some(Type)),
        ("support.type.property-name", Some(Attribute)),
        ("constant", Some(Number)),
        ("constant.numeric", Some(Number)),
        ("support.constant", Some(Number)),
        ("entity.other.attribute-name", Some(Attribute)),
        ("meta.annotation", Some(Attribute)),
        ("variable.annotation", Some(Attribute)),
        ("variable.other.key", Some(Attribute)),
        ("entity.name.label", Some(Attribute)),
        ("invalid", Some(Invalid)),
        ("markup.deleted", Some(Invalid)),
        // Code in a string or in markup is code.
        ("meta.interpolation", None),
        ("source", None),
        ("text", None),
    ]
};

/// The beginnings, the longest first.
static BY_LENGTH: LazyLock<Vec<(Scope, Option<TokenClass>)>> = LazyLock::new(|| {
    let parsed = CLASSES.iter().filter_map(|(name, class)| {
        let scope = Scope::new(name).ok()?;
        Some((scope, *class))
    });
    let mut all: Vec<_> = parsed.collect();
    all.sort_by_key(|(scope, _)| std::cmp::Reverse(scope.len()));
    all
});

/// Classes of scopes that were looked up before.
#[derive(Default)]
pub(crate) struct ScopeClasses(HashMap<Scope, Option<Option<TokenClass>>>);

impl ScopeClasses {
    /// The class of text in a scope that lies in text of the class `around`.
    pub(crate) fn of(&mut self, scope: Scope, around: Option<TokenClass>) -> Option<TokenClass> {
        let found = self.0.entry(scope).or_insert_with(|| {
            let mut all = BY_LENGTH.iter();
            let first = all.find(|(beginning, _)| beginning.is_prefix_of(scope));
            first.map(|(_, class)| *class)
        });
        found.unwrap_or(around)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        let mut classes = ScopeClasses::default();
        let mut of = |name: &str, around| classes.of(Scope::new(name).unwrap(), around);
        assert_eq!(of("keyword.control.rust", None), Some(TokenClass::Keyword));
        assert_eq!(of("keyword.operator.rust", Some(TokenClass::String)), None);
        assert_eq!(
            of("keyword.operator.word.python", None),
            Some(TokenClass::Keyword)
        );
        assert_eq!(
            of("punctuation.separator", Some(TokenClass::Attribute)),
            Some(TokenClass::Attribute)
        );
        assert_eq!(of("keywordish", None), None);
        assert_eq!(BY_LENGTH.len(), CLASSES.len());
    }
}
