import com.pixelmed.validate.DicomSRValidator;
import java.io.InputStream;
import java.lang.reflect.Field;
import javax.xml.transform.Transformer;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.stream.StreamSource;

/**
 * PixelMed's own template checker over many reports in one process, its rules compiled once.
 *
 * <p>As it comes it reads its table of context groups anew for every content item, since its
 * stylesheet has no address the table could be remembered by. Here the same stylesheet has one; what
 * is said of a report stays the same, word for word.
 */
public final class ValidateReports {
    private static final String FOLDER = "/com/pixelmed/validate/";
    private static final String ADDRESS = "file://" + FOLDER;

    public static void main(String[] paths) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        Field rules = DicomSRValidator.class.getDeclaredField("transformerPass1");
        rules.setAccessible(true);
        rules.set(validator, addressedRules());
        for (String path : paths) {
            System.out.println("=== " + path);
            System.out.println(validator.validate(path));
        }
    }

    private static Transformer addressedRules() throws Exception {
        TransformerFactory factory = TransformerFactory.newInstance();
        factory.setURIResolver((name, base) -> fromJar(name));
        Transformer compiled = factory.newTransformer(fromJar("DicomSRDescriptionsCompiled.xsl"));
        compiled.setURIResolver((name, base) -> fromJar(name));
        return compiled;
    }

    private static StreamSource fromJar(String name) {
        InputStream content = DicomSRValidator.class.getResourceAsStream(FOLDER + name);
        return new StreamSource(content, ADDRESS + name);
    }
}
