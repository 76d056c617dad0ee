"""Forty made-up patients: what an archive holds of each, and what the rule makes of it, by hand.

A line is a study (``study``) or one of its series, in the order of their UIDs: the first has the
smallest. ``day`` counts from the patient's index date. What is not said is usual: the study is a
"CT Thorax Abdomen Pelvis", a CT series is "portal venous" with slices of 3 mm, a segmentation is
drawn on ``1``, the study's first series. Then: whether the line is taken, and why. What this
Orthanc says by one protocol alone stands here twice: by DICOMweb it tells no issuer (its object
does), and does not find a PatientID that an address cannot hold as it is.
"""

TABLE = """
patient | day | what | but | taken | reason

# Whole and plain.
01 | -5 | study | | no | LOOKED INTO 2 1
   |    | CT | | yes | baseline: -5 days from the index date
   |    | SEG | | yes | of_the_baseline: drawn on the baseline
02 | 0 | study | | no | LOOKED INTO 2 1
   |    | CT | slices=4 | yes | baseline: +0 days from the index date; BY ID
   |    | RTSTRUCT | | yes | of_the_baseline: drawn on the baseline

# The borders of the window.
03 | -92 | study | | no | LOOKED INTO 1 1
   |     | CT | | yes | baseline: -92 days from the index date; NO SEG
04 | -93 | study | | no | OUTSIDE -93
05 | +7 | study | | no | LOOKED INTO 2 1
   |    | CT | | yes | baseline: +7 days from the index date
   |    | SEG | | yes | of_the_baseline: drawn on the baseline
06 | +8 | study | | no | OUTSIDE +8
33 | none | study | | no | study_without_date: found no StudyDate
   | -1 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -1 days from the index date; NO SEG
34 | -120 | study | | no | OUTSIDE -120
   | -60 | study | | no | LOOKED INTO 1 1
   |     | CT | | no | other_study_nearer: found -60 days from the index date, the baseline +3
   | -20 | study | | no | LOOKED INTO 2 1
   |     | CT | | no | other_study_nearer: found -20 days from the index date, the baseline +3
   |     | SEG | | no | NOT HERE
   | +3 | study | | no | LOOKED INTO 2 1
   |    | CT | | yes | baseline: +3 days from the index date
   |    | SEG | | yes | of_the_baseline: drawn on the baseline
   | +30 | study | | no | OUTSIDE +30

# Several that fit: the nearest, before rather than after, segmented, thinner, the smaller UID.
07 | -10 | study | | no | LOOKED INTO 2 1
   |     | CT | | no | other_study_nearer: found -10 days from the index date, the baseline -3
   |     | SEG | | no | NOT HERE
   | -3 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -3 days from the index date; NO SEG
08 | +4 | study | | no | LOOKED INTO 2 1
   |    | CT | mm=1 | no | other_study_before: as near, but after the index date
   |    | SEG | | no | NOT HERE
   | -4 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -4 days from the index date; NO SEG
09 | -3 | study | | no | LOOKED INTO 1 1
   |    | CT | | no | other_study_nearer: found -3 days from the index date, the baseline +2
   | +2 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: +2 days from the index date; NO SEG
10 | -6 | study | | no | LOOKED INTO 2 2
   |    | CT | mm=5 | no | other_series_thinner: found 5 mm, the baseline 2 mm
   |    | CT | mm=2 | yes | baseline: -6 days from the index date; NO SEG
11 | -6 | study | | no | LOOKED INTO 3 2
   |    | CT | mm=1 | no | other_series_segmented: of the same day; a segmentation is on the other
   |    | CT | mm=5 | yes | baseline: -6 days from the index date
   |    | SEG | on=2 | yes | of_the_baseline: drawn on the baseline
12 | -6 | study | | no | LOOKED INTO 2 2
   |    | CT | | yes | baseline: -6 days from the index date; NO SEG
   |    | CT | | no | other_uid_first: equal in all else: the smaller UID is the baseline
38 | -2 | study | | no | LOOKED INTO 1 1
   |    | CT | mm=2 | no | other_series_thinner: found 2 mm, the baseline 1 mm
   | -2 | study | | no | LOOKED INTO 1 1
   |    | CT | mm=1 | yes | baseline: -2 days from the index date; NO SEG

# Whose they are: as the archive tells of a study, or only an object itself.
13 | -9 | study | born=19500101 | no | SEVERAL
   | -2 | study | born=19700101 | no | SEVERAL
14 | -9 | study | born=19500101 | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -9 days from the index date; NO SEG
   | -2 | study | born=19700101 | no | other_person: found another birth date
15 | -2 | study | issuer=ELSEWHERE;by=c-get | no | other_person: found another Issuer of Patient ID
15 | -2 | study | issuer=ELSEWHERE;by=dicomweb | no | LOOKED INTO 1 0
   |    | CT | | no | other_person: found another Issuer of Patient ID
0016 | -8 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -8 days from the index date; NO SEG
16 | -1 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -1 days from the index date; NO SEG
40 | -1 | study | | no | LOOKED INTO 3 1
   |    | CT | | yes | baseline: -1 days from the index date
   |    | SEG | sex=F | no | other_person: found another sex
   |    | SEG | | yes | of_the_baseline: drawn on the baseline
A/37 &1 | -1 | study | by=c-get | no | LOOKED INTO 2 1
   |    | CT | | yes | baseline: -1 days from the index date
   |    | SEG | | yes | of_the_baseline: drawn on the baseline
A/37 &1 | | | by=dicomweb | no | no_study: found no study of this PatientID

# The contrast phase.
17 | -5 | study | | no | LOOKED INTO 2 0
   |    | CT | says=arterial | no | OTHER PHASE
   |    | SEG | | no | NOT HERE
18 | -5 | study | says=CT TAP arterial + portal venous | no | LOOKED INTO 4 1
   |    | CT | says=arterial | no | OTHER PHASE
   |    | CT | says=Portal-venous 3.0 | yes | baseline: -5 days from the index date
   |    | CT | says=B30f 3.0 | no | TWO PHASES
   |    | SEG | on=2 | yes | of_the_baseline: drawn on the baseline
26 | -5 | study | | no | LOOKED INTO 3 1
   |    | CT | says=nativ | no | OTHER PHASE
   |    | CT | | yes | baseline: -5 days from the index date; NO SEG
   |    | SEG | on=1 | no | not_of_the_baseline: names no image of the baseline
30 | -5 | study | | no | LOOKED INTO 1 0
   |    | CT | says=3.0 | no | NO PHASE
36 | -5 | study | says=CT thorax abdomen pelvis, intravenous contrast | no | LOOKED INTO 1 0
   |    | CT | says=3.0 | no | NO PHASE
39 | -5 | study | says=CT Thorax Abdomen Becken portalvenös | no | LOOKED INTO 1 1
   |    | CT | says=3.0 | yes | baseline: -5 days from the index date; NO SEG

# The body part.
28 | -5 | study | | no | LOOKED INTO 2 1
   |    | CT | says=Head portal venous | no | OTHER PART
   |    | CT | | yes | baseline: -5 days from the index date; NO SEG
29 | -5 | study | says=CT Thorax | no | LOOKED INTO 2 1
   |    | CT | body=CHEST | no | NO PART
   |    | CT | body=CHESTABDPELVIS | yes | baseline: -5 days from the index date; NO SEG

# The slices.
19 | -5 | study | | no | LOOKED INTO 1 0
   |    | CT | mm=8 | no | TOO THICK
20 | -5 | study | | no | LOOKED INTO 1 0
   |    | CT | mm=8 | no | TOO THICK
   | -50 | study | | no | LOOKED INTO 1 1
   |    | CT | mm=5 | yes | baseline: -50 days from the index date; NO SEG
27 | -5 | study | | no | LOOKED INTO 1 1
   |    | CT | last_mm=8 | no | TOO THICK (in the whole series)
   | -9 | study | | no | LOOKED INTO 1 1
   |    | CT | | yes | baseline: -9 days from the index date; NO SEG
31 | -5 | study | | no | LOOKED INTO 1 0
   |    | CT | mm=none | no | thickness_not_told: found no slice thickness, wanted at most 5 mm
32 | -5 | study | | no | LOOKED INTO 2 1
   |    | CT | scout=yes | no | localizer: found a localizer, wanted slices
   |    | CT | | yes | baseline: -5 days from the index date; NO SEG

# Other objects.
21 | -5 | study | | no | LOOKED INTO 2 0
   |    | MR | | no | other_modality: found MR, wanted CT
   |    | SEG | | no | NOT HERE
22 | -5 | study | | no | LOOKED INTO 3 1
   |    | MR | | no | other_modality: found MR, wanted CT
   |    | CT | | yes | baseline: -5 days from the index date
   |    | RTSTRUCT | on=2 | yes | of_the_baseline: drawn on the baseline
24 | -5 | study | | no | LOOKED INTO 2 1
   |    | CT | | yes | baseline: -5 days from the index date; NO SEG
   |    | SEG | own=yes | no | own_output: made by this node
25 | -5 | study | | no | LOOKED INTO 3 1
   |    | CT | | yes | baseline: -5 days from the index date
   |    | SEG | own=yes | no | own_output: made by this node
   |    | SEG | more=own | yes | ONE OF TWO; own_output: made by this node
35 | -5 | study | | no | LOOKED INTO 2 1
   |    | CT | capture=yes | no | no_image: found no object of a CT image class
   |    | CT | | yes | baseline: -5 days from the index date; NO SEG

# In the list, not in the archive.
absent | | | | no | no_study: found no study of this PatientID
"""

IN_WORDS = {
    r"LOOKED INTO (.) (.)": r"in_window: found \1 series, \2 of them as the baseline must be",
    r"OUTSIDE (.*)": r"outside_window: found \1 days from the index date, wanted -92 to +7",
    "NOT HERE": "no_baseline_here: the baseline is no series of this study",
    "NO SEG": "no segmentation of it found",
    "BY ID": "the PatientID alone tells whose it is",
    "SEVERAL": "several_persons: studies of this PatientID contradict each other, and the list "
    "does not tell which person is meant: wanted birth_date or issuer there",
    "OTHER PHASE": "other_phase: the description names another contrast phase",
    "TWO PHASES": "phase_unclear: the description names more than one contrast phase",
    "NO PHASE": "phase_not_told: no description names the contrast phase",
    "OTHER PART": "other_body_part: body part or description name another part",
    "TOO THICK": "slices_too_thick: found 8 mm, wanted at most 5 mm",
    "ONE OF TWO;": "of_the_baseline: 1 of 2 objects; of another:",
    "NO PART": "body_part_not_told: neither body part nor a description name a wanted one",
}

WITHOUT = {
    "c-get": {"04", "06", "13", "15", "17", "19", "21", "30", "31", "36", "absent"},
    "dicomweb": {"04", "06", "13", "15", "17", "19", "21", "30", "31", "36", "absent", "A/37 &1"},
}
"""Patients who have no baseline."""

LISTED = {
    "02": {"birth_date": ""},
    "13": {"birth_date": ""},
    "14": {"birth_date": "1950-01-01"},
    "15": {"issuer": "HOSPITAL"},
}
"""What the list says otherwise than usual: birth date 19600101 and no issuer."""
