//! Pages like real ones, from a seed: clutter around prose of many languages, and broken markup.

use std::fmt::Write as _;

/// A page, and what has to come out of it.
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    pub(super) language: &'static str,
    /// Sentences that belong to the content.
    pub(super) content: Vec<String>,
}

/// What must never come out of a page.
pub(super) const CLUTTER: [&str; 8] = [
    "navclutter",
    "cookieclutter",
    "sideclutter",
    "footclutter",
    "scriptclutter",
    "styleclutter",
    "hiddenclutter",
    "commentclutter",
];

/// A language, its charset of old, and words of prose.
struct Tongue {
    code: &'static str,
    charset: &'static str,
    sentences: [&'static str; 5],
}

const TONGUES: [Tongue; 12] = [
    Tongue {
        code: "en",
        charset: "windows-1252",
        sentences: [
            "The service refuses new connections when the limit has been reached, and says so in its log",
            "Nobody should change this value without having read the chapter about memory first",
            "If the disk is full, the oldest records are removed until there is enough space again",
            "This was different in earlier versions, which is why many guides still say something else",
            "Every evening a copy of the database is written to another machine in another building",
        ],
    },
    Tongue {
        code: "de",
        charset: "iso-8859-1",
        sentences: [
            "Der Dienst nimmt keine neuen Verbindungen an, wenn die Grenze erreicht ist, und schreibt das ins Protokoll",
            "Diesen Wert sollte niemand ändern, ohne vorher das Kapitel über den Speicher gelesen zu haben",
            "Ist die Festplatte voll, werden die ältesten Einträge gelöscht, bis wieder genügend Platz da ist",
            "In früheren Fassungen war das anders, weshalb viele Anleitungen noch etwas anderes behaupten",
            "Jeden Abend wird eine Kopie der Datenbank auf einen Rechner in einem anderen Gebäude geschrieben",
        ],
    },
    Tongue {
        code: "fr",
        charset: "iso-8859-15",
        sentences: [
            "Le service refuse les nouvelles connexions dès que la limite est atteinte et le signale dans son journal",
            "Personne ne devrait changer cette valeur sans avoir lu d'abord le chapitre consacré à la mémoire",
            "Quand le disque est plein, les plus anciens enregistrements sont supprimés jusqu'à ce qu'il y ait de la place",
            "Il en était autrement dans les versions précédentes, et beaucoup de guides disent encore le contraire",
            "Chaque soir une copie de la base est écrite sur une autre machine, dans un autre bâtiment",
        ],
    },
    Tongue {
        code: "es",
        charset: "windows-1252",
        sentences: [
            "El servicio rechaza las conexiones nuevas cuando se alcanza el límite, y lo anota en su registro",
            "Nadie debería cambiar este valor sin haber leído antes el capítulo sobre la memoria",
            "Si el disco está lleno, se eliminan los registros más antiguos hasta que haya espacio suficiente",
            "Esto era distinto en las versiones anteriores, y por eso muchas guías todavía dicen otra cosa",
            "Cada noche se escribe una copia de la base de datos en otra máquina de otro edificio",
        ],
    },
    Tongue {
        code: "ru",
        charset: "windows-1251",
        sentences: [
            "Служба отказывает в новых соединениях, когда достигнут предел, и пишет об этом в журнал",
            "Никто не должен менять это значение, не прочитав сначала главу о памяти",
            "Если диск заполнен, самые старые записи удаляются, пока снова не появится место",
            "В прежних версиях это было иначе, поэтому многие руководства говорят другое",
            "Каждый вечер копия базы данных записывается на другую машину в другом здании",
        ],
    },
    Tongue {
        code: "el",
        charset: "iso-8859-7",
        sentences: [
            "Η υπηρεσία αρνείται νέες συνδέσεις όταν φτάσει στο όριο και το γράφει στο ημερολόγιό της",
            "Κανείς δεν πρέπει να αλλάξει αυτή την τιμή χωρίς να διαβάσει πρώτα το κεφάλαιο για τη μνήμη",
            "Αν ο δίσκος είναι γεμάτος, οι παλαιότερες εγγραφές διαγράφονται μέχρι να υπάρξει χώρος",
            "Στις προηγούμενες εκδόσεις αυτό ήταν διαφορετικό, γι' αυτό πολλοί οδηγοί λένε κάτι άλλο",
            "Κάθε βράδυ ένα αντίγραφο της βάσης γράφεται σε άλλο μηχάνημα σε άλλο κτίριο",
        ],
    },
    Tongue {
        code: "ja",
        charset: "shift_jis",
        sentences: [
            "上限に達すると、サービスは新しい接続を拒否し、そのことをログに記録します",
            "メモリについての章を読まずに、この値を変更してはいけません",
            "ディスクがいっぱいになると、十分な空きができるまで古い記録が削除されます",
            "以前のバージョンでは違っていたので、多くの手引きにはまだ別のことが書いてあります",
            "毎晩、データベースの写しが別の建物にある別の機械に書き込まれます",
        ],
    },
    Tongue {
        code: "zh",
        charset: "gbk",
        sentences: [
            "达到上限后，服务会拒绝新的连接，并把这件事写入日志",
            "没有先读过关于内存的章节，任何人都不应该修改这个值",
            "如果磁盘已满，最旧的记录会被删除，直到重新有足够的空间",
            "早期版本的做法不同，因此许多指南仍然说的是另一回事",
            "每天晚上，数据库的副本都会写到另一栋楼里的另一台机器上",
        ],
    },
    Tongue {
        code: "ko",
        charset: "euc-kr",
        sentences: [
            "한도에 도달하면 서비스는 새로운 연결을 거부하고 그 사실을 로그에 기록합니다",
            "메모리에 관한 장을 먼저 읽지 않고 이 값을 바꾸어서는 안 됩니다",
            "디스크가 가득 차면 충분한 공간이 생길 때까지 가장 오래된 기록이 삭제됩니다",
            "이전 버전에서는 달랐기 때문에 많은 안내서가 아직도 다르게 설명하고 있습니다",
            "매일 저녁 데이터베이스의 사본이 다른 건물에 있는 다른 기계에 기록됩니다",
        ],
    },
    Tongue {
        code: "ar",
        charset: "windows-1256",
        sentences: [
            "ترفض الخدمة الاتصالات الجديدة عند بلوغ الحد الأقصى وتسجل ذلك في سجلها",
            "لا ينبغي لأحد أن يغير هذه القيمة دون أن يقرأ أولا الفصل الخاص بالذاكرة",
            "إذا امتلأ القرص تحذف أقدم السجلات حتى تتوفر مساحة كافية من جديد",
            "كان هذا مختلفا في الإصدارات السابقة ولذلك لا تزال أدلة كثيرة تقول شيئا آخر",
            "تكتب نسخة من قاعدة البيانات كل مساء على جهاز آخر في مبنى آخر",
        ],
    },
    Tongue {
        code: "he",
        charset: "windows-1255",
        sentences: [
            "השירות מסרב לחיבורים חדשים כאשר מגיעים לגבול, ורושם זאת ביומן שלו",
            "אסור לשנות את הערך הזה בלי לקרוא קודם את הפרק על הזיכרון",
            "אם הדיסק מלא, הרשומות הישנות ביותר נמחקות עד שיש שוב מספיק מקום",
            "בגרסאות קודמות זה היה אחרת, ולכן מדריכים רבים עדיין אומרים משהו אחר",
            "בכל ערב נכתב עותק של מסד הנתונים למחשב אחר בבניין אחר",
        ],
    },
    Tongue {
        code: "hi",
        charset: "utf-8",
        sentences: [
            "सीमा पूरी होने पर सेवा नए संपर्क अस्वीकार कर देती है और इसे अपने लॉग में लिखती है",
            "स्मृति वाला अध्याय पढ़े बिना किसी को भी यह मान नहीं बदलना चाहिए",
            "यदि डिस्क भर जाए तो पर्याप्त जगह होने तक सबसे पुराने अभिलेख हटा दिए जाते हैं",
            "पहले के संस्करणों में यह अलग था, इसलिए कई मार्गदर्शिकाएँ अब भी कुछ और कहती हैं",
            "हर शाम डेटाबेस की एक प्रति दूसरे भवन की दूसरी मशीन पर लिखी जाती है",
        ],
    },
];

/// Numbers that look like chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn often(&mut self) -> bool {
        self.below(4) > 0
    }
}

/// The page of this seed.
pub(super) fn page(seed: u64) -> Page {
    let mut dice = Dice(seed);
    let tongue = &TONGUES[usize::try_from(seed).unwrap() % TONGUES.len()];
    let legacy = dice.below(2) == 0;
    let charset = if legacy { tongue.charset } else { "utf-8" };
    let mut content = Vec::new();
    let html = html(&mut dice, tongue, charset, &mut content);
    let encoding = encoding_rs::Encoding::for_label(charset.as_bytes()).unwrap();
    let (bytes, ..) = encoding.encode(&html);
    Page { bytes: bytes.into_owned(), language: tongue.code, content }
}

fn html(dice: &mut Dice, tongue: &Tongue, charset: &str, content: &mut Vec<String>) -> String {
    let meta = dice.one_of(&[
        "<meta charset='CS'>",
        "<META http-equiv=Content-Type content='text/html; charset=CS'>",
    ]);
    let mut html = dice
        .one_of(&["<!doctype html>", "", "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 3.2//EN\">\n"])
        .to_owned();
    write!(
        html,
        "<html lang={}><head>{}<title>T</title>",
        tongue.code,
        meta.replace("CS", charset)
    )
    .unwrap();
    html += "<style>.styleclutter{}</style><script>var x = '<p>scriptclutter</p>';</script><body>";
    html += "<!-- commentclutter <p>commentclutter</p> -->";
    let nav = dice.one_of(&[
        "<nav>LIST</nav>",
        "<div class='main-nav'>LIST</div>",
        "<ul id=menu>ITEMS</ul>",
        "<div role=navigation>LIST</div>",
    ]);
    html += &nav.replace("LIST", "<ul>ITEMS</ul>").replace("ITEMS", &items(dice));
    if dice.often() {
        html += "<div class='cookie-banner'><p>cookieclutter is accepted here, or not.</p></div>";
    }
    let (open, close) = dice.one_of(&[
        ("<main><article>", "</article></main>"),
        ("<div class=content>", "</div>"),
        ("<table width=100%><tr><td>", "</td></tr></table>"),
        ("<div id=page><div><section>", "</section></div></div>"),
        ("", ""),
    ]);
    html += open;
    for n in 0..4 + dice.below(8) {
        section(dice, tongue, n, &mut html, content);
    }
    html += "<p style='display:none'>hiddenclutter</p><script>scriptclutter()</script>";
    html += close;
    html += dice.one_of(&["<aside>", "<div class=sidebar>"]);
    html += "<p>sideclutter, subscribe, share, like.</p>";
    html += dice.one_of(&["</aside>", "</div>", ""]);
    html += "<footer><p>footclutter <a href=/imprint>footclutter</a></p></footer>";
    html
}

fn items(dice: &mut Dice) -> String {
    let close = dice.one_of(&["</li>", ""]);
    (0..6 + dice.below(20))
        .map(|n| format!("<li><a href='/nav/{n}'>navclutter {n}</a>{close}"))
        .collect()
}

fn section(
    dice: &mut Dice,
    tongue: &Tongue,
    n: usize,
    html: &mut String,
    content: &mut Vec<String>,
) {
    let close = dice.one_of(&["</p>", "", "</p>\n"]);
    if dice.often() {
        write!(html, "<h2>{n}</h{}>", dice.one_of(&[2, 3])).unwrap();
    }
    for _ in 0..1 + dice.below(4) {
        let sentence = format!("{} {n}.", dice.one_of(&tongue.sentences));
        let (words, rest) = sentence.split_at(sentence.floor_char_boundary(sentence.len() / 2));
        let (on, off) = dice.one_of(&[
            ("", ""),
            ("<b>", "</b>"),
            ("<a href=x>", "</a>"),
            ("<span>", ""),
            ("<i>", "</i>"),
        ]);
        write!(html, "<p>{on}{words}{off}{rest}{close}").unwrap();
        content.push(sentence);
    }
    match dice.below(5) {
        0 => *html += "<pre><code>let x = 1 &lt; 2;</code></pre>",
        1 => *html += "<table><tr><th>a<th>b<tr><td>1<td>2</table>",
        2 => *html += "<ul><li>one<li>two</ul>",
        3 => *html += "<div><font color=red>unclosed <b>marks",
        _ => *html += "<img src=x><br><br>&nbsp;&copy;&#8212;",
    }
}
