//! Whether a sentence tells its reader to do something.

/// Verbs that English instructions begin with, sorted.
const ENGLISH: &[&str] = &[
    "access",
    "activate",
    "add",
    "adjust",
    "allow",
    "append",
    "apply",
    "assign",
    "attach",
    "authorize",
    "build",
    "call",
    "change",
    "check",
    "choose",
    "clear",
    "click",
    "clone",
    "close",
    "compile",
    "configure",
    "confirm",
    "connect",
    "copy",
    "create",
    "cut",
    "define",
    "delete",
    "deploy",
    "disable",
    "disconnect",
    "download",
    "drag",
    "drop",
    "edit",
    "enable",
    "ensure",
    "enter",
    "execute",
    "export",
    "extend",
    "extract",
    "fill",
    "find",
    "finish",
    "follow",
    "generate",
    "get",
    "give",
    "go",
    "grant",
    "hold",
    "import",
    "include",
    "insert",
    "install",
    "invoke",
    "issue",
    "keep",
    "launch",
    "leave",
    "load",
    "locate",
    "log",
    "make",
    "mark",
    "mix",
    "mount",
    "move",
    "name",
    "navigate",
    "open",
    "paste",
    "pick",
    "place",
    "plug",
    "point",
    "pour",
    "press",
    "provide",
    "pull",
    "push",
    "put",
    "read",
    "reboot",
    "refresh",
    "register",
    "reload",
    "remember",
    "remove",
    "rename",
    "repeat",
    "replace",
    "reset",
    "restart",
    "restore",
    "return",
    "review",
    "rotate",
    "run",
    "save",
    "scroll",
    "select",
    "send",
    "set",
    "sign",
    "specify",
    "start",
    "stir",
    "stop",
    "submit",
    "switch",
    "tap",
    "tell",
    "test",
    "tick",
    "toggle",
    "turn",
    "type",
    "uncheck",
    "unpack",
    "unplug",
    "unzip",
    "update",
    "upload",
    "use",
    "verify",
    "visit",
    "wait",
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
