"""Which lesion names say which lesion is meant, and which any lesion may bear."""

import re
import unicodedata

LONGEST_NAME = 256
"""Characters of a name that are looked at: names are outside strings."""
_WORD_OR_NUMBER = re.compile(r"[^\W\d_]+|\d+")
# English first, then what German, French, Spanish, Italian, Portuguese, Dutch, Scandinavian,
# Polish, Czech, Turkish, Russian, Greek, Chinese, Japanese, Korean, Arabic and Hebrew add.
_WORDS = """
segment segments seg segmentation segmentations structure struct rtstruct roi rois voi vois region
regions area areas label labels mask masks object objects contour contours annotation annotations
measurement finding findings volume lesion lesions les target targets nontarget index dominant tl
ntl nt tumor tumors tumour tumours mass masses nodule nodules node nodes lymph ln cancer carcinoma
neoplasm neoplasia malignancy metastasis metastases metastatic met mets primary secondary disease
gtv gtvp gtvn gtvs gtvt ctv ctvp ctvn ptv ptvp ptvn itv l m n s t new unnamed untitled unknown
undefined default none na nan null blank empty temp tmp test draft final copy old edited manual
automatic auto ai reader item element no nr num number id of the nii gz nrrd mha dcm stl segmente
segmentierung struktur strukturen bereich gebiet maske masken objekt objekte kontur konturen
markierung befund befunde volumen lasion lasionen laesion laesionen herd herde zielherd zielherde
raumforderung knoten lymphknoten lk krebs karzinom geschwulst neubildung metastase metastasen
filia filiae neu neue neuer neues unbenannt ohne name namenlos unbekannt nummer kopie von zone
etiquette masque masques objet objets cible cibles tumeur tumeurs masse ganglion ganglions
carcinome nouveau nouvelle sans nom titre inconnu inconnue numero copie segmento segmentos
segmentacion estructura zona etiqueta mascara objeto contorno hallazgo lesiones diana dianas masa
masas nodulo nodulos ganglio ganglios nuevo nueva sin nombre titulo desconocido segmenti
segmentazione struttura regione etichetta maschera oggetto reperto lesione lesioni bersaglio
tumore tumori massa noduli linfonodo linfonodi cancro metastasi nuovo nuova senza nome titolo
sconosciuto segmentacao estrutura regiao achado lesao lesoes alvo alvos tumores massas novo nova
sem desconhecido segmenten segmentatie structuur gebied masker laesie laesies letsel doel tumoren
knobbel klier lymfeklier kanker uitzaaiing uitzaaiingen nieuw nieuwe naamloos onbekend omrade
forandring forandringar lesjon lesjoner laesioner svulst svulster knuta knutor knude knuder
lymfkortel metastas metastaser namnlos okand ukjent ukendt ny nytt struktura obszar maska obiekt
zmiana zmiany ogniskowa ognisko ogniska guz guzy guzek wezel wezeł przerzut przerzuty rak nowy
nowa nowe nienazwany nieznany numer oblast leze lozisko loziska nador nadory uzel uzlina metastazy
novy nove neznamy cislo lezyon lezyonlar hedef kitle nodul lenf nodu kanser metastaz metastazlar
yeni adsiz bilinmeyen bolge nesne сегмент сегменты сегментация структура область зона маска метка
объект контур находка очаг очаги образование образования поражение поражения мишень опухоль
опухоли узел узлы лимфоузел рак метастаз метастазы новый новая новое безымянный неизвестно номер
τμημα περιοχη μασκα βλαβη βλαβες εστια ογκος ογκοι μαζα οζος οζοι μεταστασις μεταστασεις
μεταστατικη νεα νεος 分割 区域 區域 标签 標籤 掩膜 掩码 遮罩 对象 轮廓 輪廓 病灶 病变 病變 靶病灶
靶区 靶區 肿瘤 腫瘤 肿块 腫塊 结节 結節 淋巴结 转移 轉移 转移灶 轉移灶 转移瘤 癌 新 新建 未命名
未知 第 号 號 个 個 一 二 三 四 五 六 七 八 九 十 セグメント セグメンテーション 領域 関心領域
ラベル マスク 輪郭 病変 病巣 標的病変 腫瘍 リンパ節 転移 転移巣 新規 名称未設定 無題 不明 番
세그먼트 분할 영역 라벨 레이블 마스크 병변 병소 표적병변 종양 종괴 결절 림프절 전이 새 이름없음 번
قطاع منطقة قناع آفة افة ورم أورام كتلة عقدة جديد נגע גידול מסכה
"""


def name_key(name: str) -> str:
    """A name as it is compared: case, width of letters, accents and outer blanks do not matter.

    Parameters
    ----------
    name : str
        An outside string; beyond `LONGEST_NAME` characters it says nothing, the key is "".

    Returns
    -------
    str
    """
    if len(name) > LONGEST_NAME:
        return ""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name).casefold())
    bare = "".join(one for one in apart if unicodedata.category(one) != "Mn")
    return " ".join(unicodedata.normalize("NFC", bare).split())


def is_generic(name: str) -> bool:
    """True for a name that says no more than that something was drawn: `Segment_1`, `GTV`, `3`.

    The rule, for all of the node: a name is generic when nothing is left of it without numbers,
    signs and words for a region, a lesion or its kind, in the languages of `_WORDS`. An organ, a
    side or any other word makes it a name: `Liver 2`, `Lesion left`, `Segment VII`.

    Parameters
    ----------
    name : str
        An outside string.

    Returns
    -------
    bool
    """
    parts = _WORD_OR_NUMBER.findall(name_key(name))
    return all(part[0].isdecimal() or part in _GENERIC for part in parts)


_GENERIC = frozenset(name_key(word) for word in _WORDS.split())
