//! What an element means to a reader.

/// What an element means to a reader: how it is set, or whether it is seen at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// Never shown as text: scripts, styles, controls, pictures.
    Unseen,
    /// Where things are on the site, not what it says.
    Chrome,
    /// The top of a page or of an article.
    Header,
    Head,
    Title,
    Meta,
    Base,
    Script,
    Body,
    Main,
    Article,
    /// 1 to 6.
    Heading(u8),
    Paragraph,
    Block,
    Bullets,
    Numbers,
    Item,
    Table,
    Caption,
    Row,
    Cell,
    HeadCell,
    Code,
    Preformatted,
    Quote,
    Link,
    Emphasis,
    Strong,
    Break,
    Rule,
    Time,
    /// Flows with the text around it.
    Inline,
}

impl Tag {
    /// What the element of this name means.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "p" => Self::Paragraph,
            "a" => Self::Link,
            "li" => Self::Item,
            "ul" | "menu" | "dir" => Self::Bullets,
            "ol" => Self::Numbers,
            "td" => Self::Cell,
            "th" => Self::HeadCell,
            "tr" => Self::Row,
            "br" => Self::Break,
            "code" | "kbd" | "samp" | "tt" => Self::Code,
            "pre" | "listing" | "plaintext" | "xmp" => Self::Preformatted,
            "b" | "strong" => Self::Strong,
            "i" | "em" => Self::Emphasis,
            "h1" => Self::Heading(1),
            "h2" => Self::Heading(2),
            "h3" => Self::Heading(3),
            "h4" => Self::Heading(4),
            "h5" => Self::Heading(5),
            "h6" => Self::Heading(6),
            "table" => Self::Table,
            "caption" => Self::Caption,
            "blockquote" => Self::Quote,
            "hr" => Self::Rule,
            "time" => Self::Time,
            "main" => Self::Main,
            "article" => Self::Article,
            "header" => Self::Header,
            "nav" | "aside" | "footer" | "dialog" => Self::Chrome,
            "head" => Self::Head,
            "title" => Self::Title,
            "meta" => Self::Meta,
            "base" => Self::Base,
            "script" => Self::Script,
            "body" | "frameset" => Self::Body,
            "style" | "noscript" | "template" | "iframe" | "frame" | "object" | "embed"
            | "applet" | "canvas" | "audio" | "video" | "img" | "picture" | "source" | "track"
            | "map" | "area" | "svg" | "button" | "select" | "option" | "optgroup" | "input"
            | "textarea" | "datalist" | "progress" | "meter" | "link" | "param" | "noframes"
            | "noembed" | "rp" => Self::Unseen,
            "div" | "section" | "dl" | "dt" | "dd" | "fieldset" | "figure" | "figcaption"
            | "form" | "details" | "summary" | "address" | "center" | "hgroup" | "legend"
            | "search" | "tbody" | "thead" | "tfoot" | "html" => Self::Block,
            _ => Self::Inline,
        }
    }

    /// Whether it begins a new line.
    pub(super) fn is_block(self) -> bool {
        !matches!(
            self,
            Self::Unseen
                | Self::Link
                | Self::Code
                | Self::Emphasis
                | Self::Strong
                | Self::Break
                | Self::Time
                | Self::Inline
        )
    }
}

/// Whether anybody asks for this attribute; all others are dropped when a page is parsed.
pub(super) fn is_read(attribute: &str) -> bool {
    matches!(
        attribute,
        "href"
            | "id"
            | "class"
            | "role"
            | "lang"
            | "hidden"
            | "aria-hidden"
            | "style"
            | "name"
            | "property"
            | "itemprop"
            | "content"
            | "datetime"
            | "type"
            | "start"
            | "http-equiv"
    )
}
