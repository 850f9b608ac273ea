"""What the molecules are assembled from: listed molecules, fragments, and the patterns that are refused."""

from __future__ import annotations

# Whole molecules, each worth having for itself: every element's hydride, common gases, one of each group.
LISTED: tuple[str, ...] = (
    "[H][H]", "O", "N", "C", "F", "Cl", "Br", "S", "[C-]#[O+]", "O=C=O", "N#N", "C#N", "N#[N+][O-]",
    "O=S=O", "C=O", "CC", "C=C", "C#C", "CO", "CF", "CCl", "CBr", "CS", "CN", "OO", "NN", "NO", "FF",
    "ClCl", "BrBr", "ClBr", "FCl", "SS", "O=C=S", "S=C=S", "N=N", "C=N", "N=C=O", "CN=C=O", "OC=O", "COC",
    "CSC", "CCO", "CC=O", "CC#N", "C[N+]#[C-]", "C=C=O", "C=C=C", "CC#C", "CC=C", "CCC", "C1CC1", "C1CO1",
    "C1CN1", "C1CS1", "C1=CC1", "NC=O", "CC(=O)O", "CC(C)=O", "COC=O", "C[N+](=O)[O-]", "O=[N+]([O-])O",
    "CON=O", "ON=O", "FC(F)F", "FC(F)(F)F", "ClC(Cl)Cl", "ClC(Cl)(Cl)Cl", "BrCBr", "FCCl", "FC=C", "ClC=C",
    "BrC=C", "C=CC=C", "C#CC#C", "C=CC=O", "C=CC#N", "N#CC#N", "O=CC=O", "NC(N)=O", "NC(N)=S", "NC=S",
    "CS(C)=O", "CS(C)(=O)=O", "CSSC", "CS(=O)(=O)O", "c1ccccc1", "c1ccncc1", "c1cc[nH]c1", "c1ccoc1",
    "c1ccsc1", "c1c[nH]cn1", "c1ncon1", "CC(C)(C)C", "CN(C)C", "C1CCCCC1", "C1CCOC1", "C1COCCN1", "OCCO",
    "NCC(=O)O", "C=[N+]=[N-]", "CN=[N+]=[N-]", "COOC", "[O-][O+]=O", "C[NH3+]", "[NH4+]", "[OH3+]", "[OH-]",
    "[F-]", "[Cl-]", "[Br-]", "[SH-]", "C[O-]", "C[S-]", "CC(=O)[O-]", "O=C[O-]", "C[N+](C)(C)C", "[C-]#N",
    "C=[NH2+]", "[N-]=C=O", "NC(N)=[NH2+]", "C[S+](C)C", "FCF", "N#CO",
)  # fmt: skip

# Joined at any atom that bears hydrogen.
FRAGMENTS: tuple[str, ...] = (
    "C", "CC", "CCC", "CC(C)C", "C=C", "C#C", "C=CC=C", "CC=C", "C=C=C", "O", "N", "S", "F", "Cl", "Br",
    "CO", "CN", "CS", "COC", "CSC", "CNC", "C=O", "CC=O", "C(=O)O", "C(=O)N", "C(=O)OC", "C#N", "C=N",
    "C=NO", "C=NN", "N=N", "NN", "NO", "SS", "C=S", "C(=S)N", "N=C=O", "N=C=S", "CF", "C(F)F", "C(F)(F)F",
    "CCl", "CBr", "C[N+](=O)[O-]", "ON=O", "CS(C)=O", "CS(C)(=O)=O", "S(=O)(=O)N", "C1CC1", "C1CCC1",
    "C1CCCC1", "C1CCCCC1", "C1=CCCC1", "C1=CCCCC1", "C1CO1", "C1CN1", "C1CS1", "C1CCO1", "C1CCN1",
    "C1CCOC1", "C1CCNC1", "C1CCSC1", "C1CCOCC1", "C1CCNCC1", "C1CNCCN1", "C1COCCN1", "O=C1CCO1", "O=C1CCN1",
    "O=C1CCCO1", "O=C1CCCN1", "O=C1CCCC1", "c1ccccc1", "c1ccncc1", "c1cncnc1", "c1ccnnc1", "c1cnccn1",
    "c1cc[nH]c1", "c1ccoc1", "c1ccsc1", "c1cn[nH]c1", "c1c[nH]cn1", "c1cocn1", "c1cscn1", "c1cnon1",
    "c1nn[nH]n1", "c1nc[nH]n1", "C1=COC=C1", "O=c1cc[nH]cc1", "C1CC2CC2C1", "C1C2CC1C2", "C=C1CC1", "OC=O",
    "C=C=O", "CC#N", "CC#C", "C[N+]#[C-]", "O=C1C=CC(=O)C=C1", "C1=CC=CC1", "C1=CCC=CC1", "OCC=O", "O=CC=O",
    "NC(N)=O", "NC=N", "NC(N)=N",
)  # fmt: skip

# Drawn three times as often as the other fragments.
COMMON = frozenset({"C", "CC", "C=C", "O", "N", "CO", "CN", "C=O", "C#N", "C(=O)N", "C(=O)O", "C#C"})

# Ions that come only beside a molecule.
ALONE: tuple[str, ...] = ("[F-]", "[Cl-]", "[Br-]")

SITES_ACID: tuple[str, ...] = ("[OX2H1]", "[SX2H1]", "[nX3H1]", "[NX3H1,NX3H2]S(=O)=O")
SITES_BASE: tuple[str, ...] = (
    "[NX3;H0,H1,H2;!$(N~[C,S]=[O,S,N]);!$(N-[#7,#8,#16])]", "[nX2;r6]", "[NX2;$(N=C);!$(N-[#7,#8])]",
)  # fmt: skip

# Chains of heteroatoms and strained or short-lived groups that relax into something else.
REFUSED: tuple[str, ...] = (
    "[#8]~[#8]~[#8]", "[OX2][OX2][#7,#16]", "[#7]~[#7]~[#7]~[#7;!r5]", "[#16]~[#16]~[#16]",
    "[#8]-[#9,#17,#35]", "[#7]-[#17,#35,#9]", "[#7]-[#7]-[#8]", "[#7]-[#8]-[#7]", "[#8]-[#16]-[#8;X2]",
    "[#16]-[#9,#17,#35]", "[#8]-[#7]-[#8;X2]", "[r3]=[r3]=*", "C=C=C=C", "[OX2H][C,N]=[N+]",
    "[#6]1=[#6]~[#6]1=[#6]", "[Br][C]([Br])[Br]", "O=C(O)[OX2H]", "[r4]#[r4]",
    "[CX4]([OX2H])([OX2H])[OX2H]", "[NX2]=[NX2]-[#7,#8,#16]", "[#16]-[#8]-[#16]", "[N;r3][N;r3]",
    "[F,Cl,Br]~[F,Cl,Br]", "[#7]~[#7]-[#16]", "[#16]-[#7]-[#16]", "[#16;!H0;X4]",
)  # fmt: skip
