//! How well a path matches a few characters that it contains in their order.
//!
//! A path that contains them gets points: for characters that follow each other, for those that begin a name or a word, and for those in the
//! name of the file; characters left out between them cost some. Of all ways to find the characters in the path the best one counts.

use std::ops::Range;

/// The longest text, in characters without spaces.
const MAX_CHARACTERS: usize = 200;
const FOLLOWS_THE_LAST: i32 = 7;
const BEGINS_A_NAME: i32 = 8;
const BEGINS_A_WORD: i32 = 6;
const IN_THE_FILE_NAME: i32 = 2;
const IMPOSSIBLE: i32 = i32::MIN / 2;

/// Characters that paths are searched for.
pub(super) struct FuzzyPattern {
    wanted: Vec<char>,
    /// Whether case counts, as it does if one of them is an upper-case letter.
    is_exact: bool,
    /// The path at hand: where each of its characters begins, the character, and what it is compared as.
    path: Vec<(usize, char, char)>,
    /// Which of them the name of the file begins with.
    name_at: usize,
    /// For each wanted character and each of the path, the points if the one is found at the other.
    points: Vec<i32>,
}

impl FuzzyPattern {
    /// `None` if there is nothing to search for, or too much. Spaces do not count.
    pub(super) fn new(text: &str) -> Option<Self> {
        let is_exact = text.chars().any(char::is_uppercase);
        let wanted: Vec<char> = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| compared(c, is_exact))
            .collect();
        (1..=MAX_CHARACTERS).contains(&wanted.len()).then(|| Self {
            wanted,
            is_exact,
            path: Vec::new(),
            name_at: 0,
            points: Vec::new(),
        })
    }

    /// The points of a path that contains the characters.
    pub(super) fn score(&mut self, path: &str) -> Option<i32> {
        let is_exact = self.is_exact;
        self.path.clear();
        let characters = path.char_indices();
        self.path
            .extend(characters.map(|(at, c)| (at, c, compared(c, is_exact))));
        let slash = self.path.iter().rposition(|(_, c, _)| *c == '/');
        self.name_at = slash.map_or(0, |slash| slash + 1);
        let mut rest = self.path.iter();
        let is_contained = |wanted: &char| rest.any(|(_, _, c)| c == wanted);
        if !self.wanted.iter().all(is_contained) {
            return None;
        }
        self.fill();
        self.row(self.wanted.len() - 1).iter().max().copied()
    }

    /// What of a path the characters are found at, for a path that contains them.
    pub(super) fn matches(&mut self, path: &str) -> Vec<Range<usize>> {
        if self.score(path).is_none() {
            return Vec::new();
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut row = self.wanted.len() - 1;
        let mut at = (0..self.path.len()).max_by_key(|at| self.row(row)[*at]);
        while let Some(here) = at {
            let (start, c, _) = self.path[here];
            let end = start + c.len_utf8();
            match found.last_mut() {
                Some(next) if next.start == end => next.start = start,
                _ => found.push(start..end),
            }
            if row == 0 {
                break;
            }
            let rest = self.row(row)[here] - self.bonus(here);
            row -= 1;
            let before = self.row(row);
            at = (0..here)
                .rev()
                .find(|at| before[*at] + step(*at, here) == rest);
        }
        found.reverse();
        found
    }

    fn row(&self, row: usize) -> &[i32] {
        &self.points[row * self.path.len()..][..self.path.len()]
    }

    fn fill(&mut self) {
        let width = self.path.len();
        self.points.clear();
        self.points.resize(width * self.wanted.len(), IMPOSSIBLE);
        for (row, wanted) in self.wanted.iter().enumerate() {
            // The best way to the characters before, with a gap.
            let mut with_gap = IMPOSSIBLE;
            for at in 0..width {
                let before = row.checked_sub(1).map(|row| row * width);
                let best = match before {
                    None => 0,
                    Some(_) if at == 0 => IMPOSSIBLE,
                    Some(before) => {
                        if at > 1 {
                            let earlier = self.points[before + at - 2];
                            with_gap = with_gap.max(earlier) - 1;
                        }
                        with_gap.max(self.points[before + at - 1] + FOLLOWS_THE_LAST)
                    }
                };
                if self.path[at].2 == *wanted && best > IMPOSSIBLE / 2 {
                    self.points[row * width + at] = best + self.bonus(at);
                }
            }
        }
    }

    /// The points of a character for its place in the path.
    fn bonus(&self, at: usize) -> i32 {
        let (_, c, _) = self.path[at];
        let before = at.checked_sub(1).map(|before| self.path[before].1);
        let begins = match before {
            None | Some('/') => BEGINS_A_NAME,
            Some(before) if !before.is_alphanumeric() => BEGINS_A_WORD,
            Some(before) if before.is_lowercase() && c.is_uppercase() => BEGINS_A_WORD,
            Some(_) => 0,
        };
        let is_in_name = at >= self.name_at;
        begins + if is_in_name { IN_THE_FILE_NAME } else { 0 }
    }
}

/// What it means for a character to be found at `at` after the one before was found at `before`.
fn step(before: usize, at: usize) -> i32 {
    match at - before - 1 {
        0 => FOLLOWS_THE_LAST,
        gap => -i32::try_from(gap).unwrap_or(i32::MAX),
    }
}

/// What a character is compared as.
fn compared(c: char, is_exact: bool) -> char {
    match is_exact {
        true => c,
        false => c.to_lowercase().next().unwrap_or(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best<'a>(text: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let mut pattern = FuzzyPattern::new(text).unwrap();
        let scored = paths
            .iter()
            .filter_map(|path| Some((pattern.score(path)?, *path)));
        let mut scored: Vec<_> = scored.collect();
        scored.sort_by_key(|(score, path)| (std::cmp::Reverse(*score), path.len()));
        scored.into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn names_and_words_count_more_than_what_is_inside_them() {
        assert_eq!(
            best(
                "main",
                &[
                    "domain/x.rs",
                    "src/remain.rs",
                    "src/m/a/i/n.rs",
                    "src/main.rs",
                    "mai"
                ]
            ),
            [
                "src/main.rs",
                "src/m/a/i/n.rs",
                "src/remain.rs",
                "domain/x.rs"
            ]
        );
        assert_eq!(
            best("rh", &["crates/search.rs", "crates/repo_head.rs"])[0],
            "crates/repo_head.rs"
        );
        assert_eq!(
            best("fp", &["fuzzyPattern.js", "fuzzypattern.js"])[0],
            "fuzzyPattern.js"
        );
        assert_eq!(
            best("lib", &["lib/x/y/z.rs", "x/y/z/lib.rs"])[0],
            "x/y/z/lib.rs"
        );
        assert_eq!(best("READ", &["readme", "README"]), ["README"]);
        assert_eq!(best("s m", &["src/main.rs"]), ["src/main.rs"]);
        assert!(FuzzyPattern::new(" ").is_none() && FuzzyPattern::new(&"x".repeat(201)).is_none());
        assert!(best("x", &[""]).is_empty());
    }

    #[test]
    fn the_best_way_is_marked() {
        let marked = |text: &str, path: &str| {
            let found = FuzzyPattern::new(text).unwrap().matches(path);
            let parts: Vec<&str> = found.into_iter().map(|range| &path[range]).collect();
            parts.join("|")
        };
        assert_eq!(marked("main", "mail/main.rs"), "main");
        assert_eq!(marked("srcmain", "src/s/main.rs"), "src|main");
        assert_eq!(marked("öß", "größe/ö.ß"), "ö|ß");
        assert_eq!(marked("ab", "xxaxb"), "a|b");
        assert_eq!(marked("q", "a"), "");
    }

    #[test]
    fn no_way_has_more_points_than_the_best() {
        // Every way to find three characters in a path, by trying all of them.
        let path = "ab/aab_bA/aBba";
        let mut pattern = FuzzyPattern::new("aba").unwrap();
        let score = pattern.score(path).unwrap();
        let wanted = ['a', 'b', 'a'];
        let is_at = |at: usize, row: usize| pattern.path[at].2 == wanted[row];
        let mut best = IMPOSSIBLE;
        let length = path.len();
        for first in (0..length).filter(|at| is_at(*at, 0)) {
            for second in (first + 1..length).filter(|at| is_at(*at, 1)) {
                for third in (second + 1..length).filter(|at| is_at(*at, 2)) {
                    let steps = step(first, second) + step(second, third);
                    let bonuses = [first, second, third].map(|at| pattern.bonus(at));
                    best = best.max(steps + bonuses.iter().sum::<i32>());
                }
            }
        }
        assert_eq!(score, best);
        let found = pattern.matches(path);
        assert_eq!(found.iter().map(Range::len).sum::<usize>(), 3);
    }
}
