//! Settings with a closed set of values: the enum and its spelling in one place.

/// A setting whose value is one of a few words.
pub trait Choice: Copy + 'static {
    /// Every word with its value, in the order the documentation lists them.
    const ALL: &'static [(&'static str, Self)];

    /// The word of this value, as it is written in the configuration file.
    fn name(self) -> &'static str;

    /// The value of a word.
    #[must_use]
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(word, _)| *word == name)
            .map(|(_, value)| *value)
    }
}

/// Declares an enum whose variants are words of the configuration file.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $crate::config::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::config::Choice::name(*self))
            }
        }
    };
}
pub(super) use choice;
