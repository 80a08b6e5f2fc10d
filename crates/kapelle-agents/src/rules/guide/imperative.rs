//! Whether a sentence tells its reader to do something.

use crate::text::{plain, sentences};

/// Verbs that English instructions begin with, sorted.
const ENGLISH: &[&str] = &[
    "accept",
    "access",
    "activate",
    "add",
    "adjust",
    "allocate",
    "allow",
    "answer",
    "append",
    "apply",
    "arrange",
    "ask",
    "assign",
    "attach",
    "authorize",
    "avoid",
    "back",
    "begin",
    "boot",
    "bring",
    "browse",
    "build",
    "bump",
    "call",
    "cancel",
    "change",
    "check",
    "choose",
    "clear",
    "click",
    "clone",
    "close",
    "compile",
    "complete",
    "configure",
    "confirm",
    "connect",
    "convert",
    "copy",
    "cover",
    "create",
    "customize",
    "cut",
    "decide",
    "decompress",
    "define",
    "delete",
    "deploy",
    "dig",
    "disable",
    "discard",
    "disconnect",
    "do",
    "double",
    "download",
    "drag",
    "drain",
    "draw",
    "drop",
    "edit",
    "enable",
    "encrypt",
    "ensure",
    "enter",
    "erase",
    "execute",
    "exit",
    "expand",
    "export",
    "expose",
    "extend",
    "extract",
    "fetch",
    "fill",
    "find",
    "finish",
    "fix",
    "follow",
    "format",
    "freeze",
    "gather",
    "generate",
    "get",
    "give",
    "go",
    "grant",
    "halt",
    "hit",
    "hold",
    "ignore",
    "import",
    "include",
    "increase",
    "initialize",
    "insert",
    "inspect",
    "install",
    "invoke",
    "issue",
    "keep",
    "kill",
    "launch",
    "leave",
    "let",
    "lift",
    "limit",
    "link",
    "list",
    "listen",
    "load",
    "locate",
    "lock",
    "log",
    "look",
    "lower",
    "make",
    "mark",
    "measure",
    "merge",
    "migrate",
    "minimize",
    "mix",
    "modify",
    "monitor",
    "mount",
    "move",
    "name",
    "navigate",
    "note",
    "obtain",
    "open",
    "order",
    "paste",
    "pause",
    "pick",
    "place",
    "plan",
    "plug",
    "point",
    "pour",
    "prepare",
    "press",
    "print",
    "produce",
    "promote",
    "provide",
    "pull",
    "purge",
    "push",
    "put",
    "query",
    "quit",
    "raise",
    "read",
    "reboot",
    "rebuild",
    "recreate",
    "redeploy",
    "reduce",
    "refresh",
    "register",
    "reinstall",
    "reload",
    "remember",
    "remove",
    "rename",
    "reopen",
    "repeat",
    "replace",
    "report",
    "request",
    "require",
    "reset",
    "restart",
    "restore",
    "resume",
    "retry",
    "return",
    "revert",
    "review",
    "revoke",
    "roll",
    "rotate",
    "run",
    "save",
    "scale",
    "schedule",
    "scroll",
    "search",
    "see",
    "select",
    "send",
    "set",
    "share",
    "shut",
    "sign",
    "skip",
    "sort",
    "specify",
    "split",
    "start",
    "stir",
    "stop",
    "store",
    "submit",
    "subscribe",
    "swap",
    "switch",
    "sync",
    "take",
    "tap",
    "tell",
    "test",
    "thaw",
    "tick",
    "toggle",
    "transfer",
    "trigger",
    "try",
    "turn",
    "type",
    "uncheck",
    "uninstall",
    "unlock",
    "unmount",
    "unpack",
    "unplug",
    "unset",
    "unzip",
    "update",
    "upgrade",
    "upload",
    "use",
    "validate",
    "verify",
    "view",
    "visit",
    "wait",
    "watch",
    "write",
];
/// Words in front of the verb.
const LEADS: [&str; 24] = [
    "first",
    "then",
    "next",
    "now",
    "finally",
    "please",
    "afterwards",
    "lastly",
    "second",
    "third",
    "also",
    "and",
    "simply",
    "just",
    "zuerst",
    "dann",
    "danach",
    "nun",
    "ensuite",
    "puis",
    "enfin",
    "luego",
    "después",
    "finalmente",
];
/// How instructions begin in other languages, in small letters.
const FOREIGN: [(&str, &[&str]); 4] = [
    (
        "de",
        &[
            "klicken",
            "öffnen",
            "wählen",
            "geben",
            "starten",
            "laden",
            "installieren",
            "drücken",
            "speichern",
            "führen",
            "kopieren",
            "erstellen",
            "melden",
            "schließen",
            "prüfen",
            "tippen",
            "setzen",
            "warten",
            "legen",
            "fügen",
            "gehen",
            "entpacken",
            "bestätigen",
            "ändern",
            "löschen",
            "aktivieren",
        ],
    ),
    (
        "fr",
        &[
            "cliquez",
            "ouvrez",
            "choisissez",
            "sélectionnez",
            "saisissez",
            "entrez",
            "lancez",
            "installez",
            "téléchargez",
            "appuyez",
            "enregistrez",
            "exécutez",
            "copiez",
            "créez",
            "connectez",
            "fermez",
            "vérifiez",
            "allez",
            "ajoutez",
            "supprimez",
            "redémarrez",
            "attendez",
            "modifiez",
            "activez",
        ],
    ),
    (
        "es",
        &[
            "haga",
            "abra",
            "elija",
            "seleccione",
            "escriba",
            "introduzca",
            "inicie",
            "instale",
            "descargue",
            "pulse",
            "guarde",
            "ejecute",
            "copie",
            "cree",
            "conéctese",
            "cierre",
            "compruebe",
            "vaya",
            "añada",
            "elimine",
            "reinicie",
            "espere",
            "cambie",
            "active",
        ],
    ),
    (
        "it",
        &[
            "fai",
            "fate",
            "fare",
            "apri",
            "aprite",
            "scegli",
            "seleziona",
            "inserisci",
            "avvia",
            "installa",
            "scarica",
            "premi",
            "salva",
            "esegui",
            "copia",
            "crea",
            "chiudi",
            "verifica",
            "vai",
            "aggiungi",
            "elimina",
            "riavvia",
        ],
    ),
];

/// Whether `sentence`, without marks, is an instruction in the language `code`.
pub(crate) fn is_told(sentence: &str, code: &str) -> bool {
    if sentence.ends_with('?') {
        return false;
    }
    let body = strip_lead(sentence);
    let Some(verb) = first_word(body) else { return false };
    if let Some(list) = FOREIGN.iter().find(|list| list.0 == code) {
        // German puts `Sie` behind the verb, where it tells and does not ask.
        let polite = code != "de" || body.split_whitespace().nth(1) == Some("Sie");
        return list.1.contains(&&*verb) && polite;
    }
    let next = body.split_whitespace().nth(1).unwrap_or_default().to_lowercase();
    // `Set is a type` and `Test results are …` begin with a verb and tell nothing.
    let is_thing =
        matches!(&*next, "is" | "are" | "was" | "were" | "has" | "can" | "will" | "results" | "of");
    !is_thing && ENGLISH.binary_search(&&*verb).is_ok()
}

/// Whether an item of a numbered list, with its marks, may be an instruction: it is looked at less
/// strictly than a sentence, and where no verbs of the language are known it always may.
pub(super) fn may_be_told(item: &str, code: &str) -> bool {
    let words = plain(item);
    let first = sentences(&words, 0..words.len()).into_iter().next();
    let first = first.map_or("", |range| &words[range]);
    if is_told(first, code) || item.trim_start().starts_with('`') {
        return true;
    }
    match FOREIGN.iter().find(|list| list.0 == code) {
        // `Datei öffnen` and `Öffnen der Datei` tell as well.
        Some((_, verbs)) => words_of(first).any(|word| verbs.contains(&&*word)),
        None => code != "en" && (code != "und" || !first.is_ascii()),
    }
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    let bare =
        |word: &str| word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase();
    text.split_whitespace().map(bare)
}

/// `sentence` without what leads to its verb: `Then, ` and `To save it, `, `If you like, `.
pub(crate) fn strip_lead(sentence: &str) -> &str {
    let mut rest = sentence.trim_start();
    for _ in 0..3 {
        let Some(word) = first_word(rest) else { return rest };
        if LEADS.contains(&&*word) {
            let skip = rest.find(|letter: char| letter.is_whitespace() || letter == ',');
            rest = rest[skip.unwrap_or(rest.len())..].trim_start_matches([',', ' ', '\n']);
            continue;
        }
        let clause = matches!(
            &*word,
            "to" | "if"
                | "when"
                | "once"
                | "after"
                | "before"
                | "in"
                | "on"
                | "from"
                | "under"
                | "with"
                | "for"
        );
        match rest.split_once(", ").filter(|parts| clause && parts.0.len() < 120) {
            Some((_, main)) => rest = main,
            None => return rest,
        }
    }
    rest
}

fn first_word(text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?;
    let word = word.trim_matches(|letter: char| !letter.is_alphanumeric());
    Some(word.to_lowercase()).filter(|word| !word.is_empty())
}
